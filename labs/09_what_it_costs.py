# %% [markdown]
# # Lab 09: what it costs
#
# **Goal.** You will count what an NMI costs a hypervisor, with vNMI and without, say when vNMI saves nothing, and know
# how to measure it on a machine of your own.
#
# **Time:** about 45 minutes. **You need:** [Lab 03](03_iret_interception.ipynb) and [Lab 04](04_vnmi.ipynb): IRET
# interception, the three bits, the two doors.
#
# **How sure is this?** What vNMI does is from the specification and from the code of Linux; it is not verified on
# hardware. Exits are counted by the machine while it runs. Cycles are a model, and a section of its own says which.
#
# | word | what it means here |
# |---|---|
# | *kick* | the interrupt with which KVM makes a running guest exit. Its exit is INTR |
# | *window* | what KVM does to hear that an NMI may now be injected: an IRET, #DB or STGI exit |
# | *D*, *W* | how many NMIs are delivered, and how many of those had to wait for the IRET of another |
# | *rate* | how often NMIs arrive; here in NMIs for each 1,000 steps of the machine |
# | *tracepoint* | a place in the kernel that can write a line into a log each time it is passed |
#
# ![Two NMIs, the second in the handler of the first. IRET interception takes six exits: two kicks, IRET, #DB, IRET and
# HLT. vNMI takes three: two kicks and HLT. The guest runs the same steps](pictures/legacy_and_vnmi.svg)
#
# *The course on one slide: above IRET interception, below vNMI, the same moments below each other. Shaded is where vNMI
# has nothing to do.*

# %% [markdown]
# ## 1. Three kinds of exits
#
# The upper half of the slide as a run. Step through it, and ask at every arrow up: whose exit is this?

# %%
from vnmi_lab import show
from vnmi_lab.checks import lab09 as lab
from vnmi_lab.machine import Stimulus

show(lab.old_way(), title="Two NMIs, IRET interception")

# %% [markdown]
# - **Kicks** bring an NMI to a guest that runs. There are two.
# - **Windows** tell KVM when the next NMI may be injected: two IRET exits and a #DB exit.
# - **The guest's own**: its `hlt` exits, with NMIs or without.
#
# vNMI is about the second kind only. A guest that is halted, or that has exited for another reason, needs no kick.
# <!-- claim: 09-01 -->

# %% [markdown]
# Here is the price list. Each line is a scenario of the library, run under both policies; `vnmi-lab run --list` says
# what each of them is. Nothing in it is written by hand.

# %%
lab.prices()

# %% [markdown]
# Read the column `legacy` once more. There is an IRET for each NMI delivered, and a #DB for each that waited for the
# IRET of another: *D + W* exits, and the kicks. (The last three lines have something else that holds an NMI.)
# <!-- claim: 09-02 -->
#
# On the KVM list the saving was once given as two exits for every NMI. The code says one, when no other waits, and so
# does a recording of Linux 6.12: IRET, and no #DB. <!-- claim: 09-03 -->

# %% [markdown]
# ### Exercise 1: the formula
#
# *n* NMIs arrive at one moment at a running guest. How many exits does IRET interception spend, kicks left out? Write
# it as a function. The machine will try 0 to 6.


# %%
def extra_exits(n):
    return ...


lab.formula.check(extra_exits)

# %%
# lab.formula.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 2. What vNMI does not save
#
# Ten NMIs in a handler become one, with vNMI and without. Do they also cost as little as one?

# %%
lab.merged_too

# %% [markdown]
# Whoever sends an NMI to a vCPU cannot know that it will merge. KVM queues it and kicks; what becomes of it is
# decided on the way back in. V_NMI is a mailbox that the processor reads at VMRUN (Lab 04), so the kick stays.
# <!-- claim: 09-04 -->
#
# And the window? With vNMI KVM needs one only when *two* NMIs must wait, and neither is in service: V_NMI takes one,
# the other stays in `nmi_pending`.

# %%
lab.shadowed

# %% [markdown]
# So KVM still has its three windows: the IRET, one step, and the STGI. Linux 6.4 warned when it opened one with vNMI
# on. The warning was wrong, not the window: CVE-2024-39483. <!-- claim: 09-05 -->
#
# And then there are guests that KVM cannot look into. Under SEV-ES it can neither intercept IRET nor read RIP. So
# such a guest has to say by itself that its NMI is over, and it sends a message: NMI_COMPLETE. (In this lab a
# `vmmcall` carries the message.)

# %%
lab.says_so

# %% [markdown]
# One exit for each NMI, with vNMI and without. Before Linux 6.6 the message went to `iret_interception`, which has a
# branch for these guests: it counts and notes the IRET, and leaves the intercept and RIP alone. Since 6.6 the message
# unmasks at once (commits 389fbbec261b and a6bb57090297). <!-- claim: 09-06 -->

# %% [markdown]
# ### Exercise 2: the worst that can be
#
# Now find the schedule in which vNMI saves the most. At most four NMIs; IRET interception must spend *four times* the
# exits of vNMI, all exits counted. The labels are `"start"`, `"work"`, `"more"`, `"done"`, `"handler"`, `"leave"`; a
# number such as `0` is a count of steps.

# %%
stimuli = [Stimulus(at="work"), ...]
lab.worst.check(stimuli)

# %%
# lab.worst.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ### Exercise 3: and the least
#
# The other way round: a scenario in which vNMI, too, opens a window. Write its text. `v1` is the version, then come the
# guest, the policy, and what arrives: `nmi@LABEL` is one NMI, `nmix3@LABEL` are three at once. In the guest `gif`, GIF
# is 0 at the label `closed`.

# %%
scenario = "v1~gif~vnmi~____"
lab.not_free.check(scenario)

# %%
# lab.not_free.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 3. When NMIs come often
#
# A watchdog sends an NMI every few seconds, a profiler thousands in a second. What is the price of *one* NMI as
# they come closer? The machine is run through every state that a looping guest can reach, and the transitions are
# put in a table; five thousand arrivals are then a walk in that table. Try rates of your own, from 1 to 1000.

# %%
lab.over_rates(1, 10, 30, 100, 300)

# %% [markdown]
# - **Left.** NMIs that are rare cost IRET interception one exit each. As they come closer some must wait, and *W* is
#   added. Closer still they merge, and what merges opens no window. vNMI stays at 0.
# - **Middle.** The share of NMIs that got a run of their own. The others merged: allowed, and on bare metal no
#   different.
# - **Right.** Cycles, by the model of the next section. <!-- claim: 09-07 -->
#
# A step is one instruction of the guest or one stretch of KVM's work. So these rates compare the two policies; they are
# no NMIs in a second.

# %% [markdown]
# ## 4. From exits to cycles
#
# How long is an exit? That depends on the processor, on the kernel and on its mitigations, and this lab has no
# processor to measure. So it *assumes*, and says so:

# %%
lab.assumptions()

# %% [markdown]
# With these figures the right-hand plot is the number of exits times 2,500, and nothing more. Put your own figures in
# place of them once you have measured. We know of no published measurement of what vNMI saves. <!-- claim: 09-08 -->

# %% [markdown]
# ## 5. Is it there?
#
# Before you measure, find out whether KVM uses it. It asks once, when the module `kvm_amd` is loaded (Linux 6.4,
# `arch/x86/kvm/svm/svm.c`), and three things must come together:
#
# | what | where you see it |
# |---|---|
# | the processor has it | CPUID Fn8000_000A, EDX bit 25; in Linux the flag `vnmi` in `/proc/cpuinfo` |
# | virtual GIF is in use | EDX bit 16, and the parameter `vgif` of `kvm_amd` |
# | nobody switched it off | the parameter `vnmi` of `kvm_amd`, on if not said otherwise |
#
# <!-- claim: 09-09 -->
#
# Virtual GIF is asked for because a guest's CLGI must hold a virtual NMI without an exit. <!-- claim: 09-10 -->

# %%
from vnmi_lab.hv.vcpu import Features

Features(vnmi_cpuid=True, vgif=False, vnmi=True).has_vnmi

# %%
lab.fall_back

# %% [markdown]
# Nobody has to choose: with vNMI missing the same kernel is the KVM of Lab 03. That is also how you get the other
# half of a comparison, on one machine. (These commands are not run here. They need root, and no guest may run.)
#
# ```text
# grep -m1 -ow vnmi /proc/cpuinfo                # prints vnmi, or nothing
# cat /sys/module/kvm_amd/parameters/vnmi        # Y: KVM uses it
# modprobe -r kvm_amd; modprobe kvm_amd vnmi=0   # the KVM of Lab 03
# modprobe -r kvm_amd; modprobe kvm_amd          # back again
# ```
#
# `is_vnmi_enabled` asks a bit, V_NMI_ENABLE, and first it asks *which* VMCB. While a nested guest runs, the function
# `get_vnmi_vmcb_l1` has none to give, so the answer is no, and the NMIs of the guest around it go the old way. Patch
# v4 had a `get_vnmi_vmcb` that gave the nested guest's. The two guests have NMIs of their own, and must not share the
# bits.
# <!-- claim: 09-11 -->

# %% [markdown]
# ## 6. What the counters count
#
# KVM counts two things about NMIs for each vCPU. Their names sound as if all was clear.

# %%
lab.counters("one", "in-handler", "storm")

# %% [markdown]
# - `nmi_injections` goes up when KVM hands an NMI over: into EVENTINJ, or into V_NMI. What merged was never handed
#   over.
# - `nmi_window_exits` goes up at an IRET exit and for NMI_COMPLETE, and at no #DB or STGI. With vNMI it stays at 0, but
#   for a guest under SEV-ES. <!-- claim: 09-12 -->
#
# Eleven were sent in the last scenario. Neither counter says so. And "handed over" is not "delivered":

# %%
lab.counted_twice

# %% [markdown]
# With vNMI the delivery itself is invisible to KVM; so the hand-over is all that it can count.
# <!-- claim: 09-13 -->

# %% [markdown]
# ## 7. Measure it yourself
#
# On a machine with an AMD processor, in three steps; again, none of this is run here. First make NMIs: `nmi` in the
# monitor of QEMU sends one, and `perf top` in a guest with a virtual PMU sends many. Then watch the exits:
#
# ```text
# perf kvm stat record -a sleep 10; perf kvm stat report --event=vmexit
# perf stat -a -e kvm:kvm_exit --filter 'exit_reason == 0x74' sleep 10   # IRET exits only
# cat /sys/kernel/debug/kvm/nmi_injections /sys/kernel/debug/kvm/nmi_window_exits
# ```
#
# Last, load `kvm_amd` with `vnmi=0`, and do it again. What should change is the number of the exits `iret` and
# `DB excp`; what should not is `interrupt`. <!-- claim: 09-14 -->
#
# The tracepoints `kvm_entry` and `kvm_exit` write one line for each way in and out. This is such a log, of a run under
# IRET interception here in the lab:

# %%
print(lab.log())

# %% [markdown]
# ### Exercise 4: read the log
#
# How many kicks were there, how many NMIs were delivered, and how many of them had to wait for the IRET of another? The
# log has no line for an NMI: no tracepoint of KVM says that one is injected. <!-- claim: 09-15 -->

# %%
found = {"kicks": ..., "delivered": ..., "waited": ...}
lab.read_it.check(found)

# %%
# lab.read_it.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## What you know now
#
# - Exits come in three kinds: kicks, windows, and the guest's own. vNMI saves windows.
# - IRET interception opens *D + W* of them: an IRET exit for each NMI delivered, a #DB exit for each that waited.
# - With vNMI a window is left when two NMIs wait behind a shadow or GIF. In an SEV-ES guest nothing is saved.
# - KVM uses vNMI when CPUID has it, virtual GIF is in use and the parameter is on; otherwise it falls back.
# - `nmi_injections` counts hand-overs, `nmi_window_exits` IRET exits. Neither counts the NMIs that were sent.
#
# And a word to the question that began the course. An NMI needs two bits, a mask and a latch. Software can stand in for
# them, at a price that you can now name.
#
# **Next:** measure it, or go back to what you left out; the next cell knows. The code that you have been reading
# about is in `arch/x86/kvm/svm/svm.c` and `arch/x86/kvm/x86.c` of Linux; `docs/patch-series.md` of this project says
# where each part of the patch series was taught.

# %%
lab.left()
