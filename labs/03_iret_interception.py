# %% [markdown]
# # Lab 03: IRET interception
#
# **Goal.** You will see how a hypervisor finds the one moment at which the next NMI may be injected, and you will
# write the function in which KVM does it. A judge will try your function in every situation there is.
#
# **Time:** about 45 minutes. **You need:** [Lab 02](02_event_injection.ipynb): VMRUN, #VMEXIT, EVENTINJ, and that an
# intercept exits *before* the instruction.
#
# | word | what it means here |
# |---|---|
# | *KVM* | the hypervisor in the Linux kernel. Here it is a program in Python, function by function, with KVM's names |
# | *vCPU* | the guest's processor as KVM sees it: the fields in the pictures, and the VMCB |
# | *policy* | one way to deliver NMIs, as a set of functions. `legacy` is KVM up to Linux 6.3 |
# | *kick* | an interrupt that KVM sends to make a running guest exit. Its exit is called INTR |
# | *`nmi_pending`* | how many NMIs wait in KVM |
# | *`nmi_masked`* | KVM's own mask: "an NMI is in service in this guest". In older kernels a flag, HF_NMI_MASK |
# | *TF* | the trap flag in RFLAGS. While it is 1 there is a debug exception, #DB, after every instruction |
#
# <!-- claim: 03-06 -->

# %% [markdown]
# ## 1. KVM at work
#
# In Lab 02 you were the host. From now on KVM is. One NMI arrives while the guest runs; play it.

# %%
from vnmi_lab import show
from vnmi_lab.checks import lab03 as lab
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.machine import Stimulus

show(lab.one_nmi(), title="One NMI under KVM")

# %% [markdown]
# There is more going on than on bare metal, but it is always the same circle.
#
# - **The NMI arrives** at KVM, not at the guest. KVM counts it in `nmi_queued`. The guest is running and knows nothing,
#   so KVM *kicks* it out. <!-- claim: 03-01 -->
# - **#VMEXIT INTR.** That is the kick.
# - **VMRUN.** On the way back in, KVM accepts the NMI, writes it to EVENTINJ, and sets its own mask, `nmi_masked`.
#   It also asks for an exit at the guest's next IRET. The panel names each function of KVM that ran.
#   <!-- claim: 03-02 -->
# - **The guest** takes the NMI and runs its handler, up to the `iretq`: **#VMEXIT IRET**. KVM notes it, and lets the
#   guest go on. <!-- claim: 03-03 -->
# - **The guest** halts in the end, which is an exit too.
#
# The guest saw one NMI. KVM spent two exits on it, one to bring it and one that has to do with its end. This lab is
# about the second one.

# %% [markdown]
# ## 2. What if KVM remembers nothing?
#
# Lab 02 ended with two injected NMIs that nest. You did that by hand, and on purpose. Here is the same as an
# accident: a KVM that injects what arrives, as soon as it arrives, and keeps no mask.

# %%
lab.blind_nests

# %% [markdown]
# On bare metal the processor would have waited. So KVM must do the waiting: `nmi_masked` goes to 1 when it injects, and
# while it is 1, further NMIs stay in `nmi_pending`. A mask in software is easy to set. The question of this lab is when
# to take it down.

# %% [markdown]
# ## 3. At the exit it is too early
#
# The mask falls when an IRET completes. KVM can intercept IRET; it gets an exit each time the guest comes to one. Let
# us take the mask down there. This KVM does so.

# %%
lab.unmask_now

# %% [markdown]
# The exit comes *before* the IRET (AMD manual, volume 2, 15.7), and the first handler's frame is still on the stack.
# The second NMI nests. It is only one instruction too early, and that is enough: on an interrupt stack of its own, as
# in Lab 01, the second frame would fall on the first. <!-- claim: 03-04 -->

# %% [markdown]
# ## 4. Then move RIP
#
# After a `vmmcall` the host moves RIP over the instruction, because it has done the work in its place. Some people try
# the same here. In this guest another handler stands behind the first one in memory:

# %%
print(lab.HANDLER, lab.BEHIND)

# %%
lab.skip_it

# %% [markdown]
# The IRET has work to do: it loads RIP, RFLAGS and RSP from the stack, and nobody did that. The guest ran into code
# that has nothing to do with NMIs.
#
# What the processor puts into `next_rip` at this exit is the address *behind* the IRET in memory. It is not where the
# IRET would go. <!-- claim: 03-05 -->

# %% [markdown]
# ## 5. Compare RIP
#
# So the guest must execute its IRET itself, and KVM must find out afterwards that it has. KVM does it in two places
# (Linux 6.3, `arch/x86/kvm/svm/svm.c`):
#
# | function | when | what it does |
# |---|---|---|
# | `iret_interception` | at the IRET's exit | stops intercepting IRET, writes RIP down, notes that it waits |
# | `svm_complete_interrupts` | after *every* exit, first | if it waits: has RIP moved? Then the mask falls |
#
# <!-- claim: 03-07 -->
#
# Why compare at all? Would the next exit not do?

# %%
lab.still_there

# %% [markdown]
# An exit can fall into the gap between the IRET's exit and the IRET: a kick, or a page of the stack that must be
# brought in first. RIP tells: while it stands at the IRET, nothing has been executed. One of the tests of the KVM
# project is made for this gap (kvm-unit-tests, `x86/eventinj.c`, "NMI IRET"). <!-- claim: 03-08 -->

# %% [markdown]
# ## 6. One step
#
# Now suppose that an NMI waits in `nmi_pending`. The guest executes its IRET, and goes on with its program, and there
# is no exit. It may be long until the next one. On bare metal the NMI would have been taken at once, directly behind
# the IRET.
#
# KVM needs an exit there. There is none for it, so it borrows a flag that was made for debuggers: TF, in the guest's
# RFLAGS. After one instruction comes a #DB, which KVM intercepts. <!-- claim: 03-09 -->

# %%
lab.one_step

# %% [markdown]
# Look at the step behind it. RIP has moved, so the mask falls; KVM gives TF back; and it injects the NMI in the same
# breath. The guest has not executed one instruction of its program in between: as on bare metal. <!-- claim: 03-10 -->
#
# KVM does this only when it must. <!-- claim: 03-11 -->

# %%
lab.no_hurry

# %% [markdown]
# ### Exercise 1: every exit
#
# *Two* NMIs arrive at the same moment, at `work`, under the policy `legacy`. Write down every exit until the guest is
# at rest. Their names are `"INTR"` (a kick), `"IRET"`, `"#DB"` and `"HLT"`. Replace the `...` by as many as you need.

# %%
order = ["INTR", ..., "HLT"]
lab.in_order.check(order)

# %%
# lab.in_order.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 7. Write it yourself
#
# Now you are KVM's author. This is what you have:
#
# | in Python | what it is |
# |---|---|
# | `vcpu.vmcb.intercept("iret", on=False)` | stop intercepting IRET |
# | `vcpu.vmcb.rip` | the guest's RIP |
# | `vcpu.nmi_iret_rip` | a place for an address |
# | `vcpu.awaiting_iret_completion` | True: `svm_complete_interrupts` compares RIP with it, at every exit |
# | `vcpu.nmi_masked` | KVM's mask |
# | `vcpu.make_request(REQ_EVENT)` | look whether an NMI waits: inject it if that may be, set TF if it may not |
#
# Your function takes the place of KVM's. Then the judge lets up to three NMIs arrive, at every moment there is, all
# combinations, and watches every state that the machine can reach. When a law is broken it finds the *shortest* way
# there and opens it below, at the step where it happened.

# %% [markdown]
# ### Exercise 2: `iret_interception`
#
# Write it. The guest is about to execute an IRET, and has not yet. You need no more than four lines, and not all that
# is in the table.


# %%
def iret_interception(vcpu):
    vcpu.nmi_window_exits += 1  # KVM counts these exits
    ...


lab.write_it.check(iret_interception)

# %%
# lab.write_it.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# When it is right, the judge has gone through more than a thousand states, each of them reached by NMIs that could
# arrive so. Try what happens when it is not: leave a line out, or take the mask down yourself. <!-- claim: 03-14 -->

# %% [markdown]
# ### Exercise 3: break it
#
# Now the other side. In this policy `svm_complete_interrupts` does not compare RIP: the first exit after the IRET's
# will do. With one NMI nothing is wrong with it.

# %%
show(lab.forgetful(), title="Without the RIP compare")

# %% [markdown]
# Let *two* NMIs arrive so that the second one nests. `at` may be a label or a number: `Stimulus(at=5)` arrives when
# five steps have been made, arrivals not counted. The picture above helps you to count.

# %%
attack = [Stimulus(at="work"), ...]
lab.break_it.check(attack)

# %%
# lab.break_it.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 8. What it costs
#
# Nothing in this table is written by hand; the machine counts while it runs. First one NMI, then two, the second in the
# handler of the first.

# %%
lab.price(Stimulus(at="work"))

# %%
lab.price(Stimulus(at="work"), Stimulus(at="handler"))

# %% [markdown]
# Blind injection is cheap, and wrong: its NMIs nest two deep. To be right costs one IRET exit for each NMI that is
# delivered, and one #DB exit more for each that had to wait for the IRET of another. Each of them is a way out of the
# guest, through KVM, and back in, for a handler that may be a few instructions long. <!-- claim: 03-12 -->
#
# You can read the count of the IRET exits on a real machine, in KVM's statistics: it is `nmi_window_exits`.
# <!-- claim: 03-13 -->

# %% [markdown]
# ## What you know now
#
# - An injected NMI sets no mask, so KVM keeps one: `nmi_masked`. What arrives meanwhile waits in `nmi_pending`.
# - KVM intercepts IRET. The exit comes before the IRET: KVM may neither unmask there nor move RIP.
# - It notes RIP, and unmasks at a later exit at which RIP has moved.
# - If an NMI waits, KVM makes that exit come at once: it sets TF for one instruction.
# - The price: one IRET exit for each NMI, one #DB exit for each that waited, and the kicks.
#
# All of this only because the processor has no place to say "in service", and none to say "one more waits". Two bits.
#
# **More of this:** `vnmi_lab.practice(1, 2)` makes and answers problems without end; the first number says which.
#
# **Next:** [Lab 04: vNMI](04_vnmi.ipynb). There the processor has them.

# %%
lab.left()
