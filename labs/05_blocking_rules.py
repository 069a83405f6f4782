# %% [markdown]
# # Lab 05: blocking rules
#
# **Goal.** For any moment you will be able to say why an NMI is not taken, who says so, and until when. You will write
# the function with which KVM answers that, and a small program that finds out whether it runs under KVM.
#
# **Time:** about 45 minutes. **You need:** [Lab 03](03_iret_interception.ipynb) and [Lab 04](04_vnmi.ipynb): the mask,
# the window, EVENTINJ and V_NMI.
#
# **How sure is this?** What vNMI does here is from the specification, AMD's manual, volume 2, section 15.21.10, and
# from the code of Linux. It is not verified on hardware.
#
# | word | what it means here |
# |---|---|
# | *shadow* | the one instruction after an `sti`: the processor lets it pass before it listens again |
# | *GIF* | the global interrupt flag, a gate for everything from outside. `clgi` closes it, `stgi` opens it |
# | *vGIF* | a GIF of the guest's own. Its bit in the VMCB is V_GIF; the pictures call it `v_gif` |
# | *blocked* | the guest cannot take an NMI now |
# | *window* | an exit that KVM arranges for the moment at which an NMI may be injected |
# | *L1, L2* | L1 is a guest that is a hypervisor itself; L2 is a guest of L1. KVM is below both |
# | *-EBUSY* | an error number of Linux. Here it says: not in this entry, but in the next |

# %% [markdown]
# ## 1. Why is it blocked?
#
# This guest closes its gate, works a little, and opens it again. An NMI arrives while it is closed. Play it, and watch
# the panel *Why is it blocked?* below the picture.

# %%
from vnmi_lab import Scenario, Stimulus, show
from vnmi_lab.checks import lab05 as lab
from vnmi_lab.hv.ops import EBUSY
from vnmi_lab.hv.svm import gif_set

show(lab.gated(), title="An NMI and a closed gate")

# %% [markdown]
# The panel has a line for each who has a say.
#
# - **KVM** is asked whenever it is about to enter the guest. May an NMI go by EVENTINJ? The panel lists every reason
#   against it, in the order in which KVM looks, and marks the one that decides.
# - **The processor** is asked while the guest runs. May it take what is in V_NMI?
#
# Go to step 6: KVM has handed the NMI over, and the guest runs again, with its gate closed. Press `w`. That goes to the
# step at which what blocks ends. You will need this key.

# %% [markdown]
# ## 2. The mask, once more
#
# The reason that you know best is another NMI in service. You have met four ways to keep a mask:
#
# | policy | NMIs are masked |
# |---|---|
# | `blind` | never |
# | `m2` | until the IRET exits. This is the mistake of Lab 03, section 3 |
# | `legacy` | until KVM sees that the IRET is over |
# | `vnmi` | until the processor has completed the IRET |
#
# Here are the program and the handler of Lab 03 again. One NMI arrives at `work`, and another at `handler`.

# %%
from vnmi_lab.checks import lab03

print(lab03.PROGRAM, lab03.HANDLER)

# %% [markdown]
# ### Exercise 1: where to?
#
# To which label does the handler of the *second* NMI return, under each policy?

# %%
returns = {
    "blind": ...,
    "m2": ...,
    "legacy": ...,
    "vnmi": ...,
}
lab.returns.check(returns)

# %%
# lab.returns.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 3. The shadow
#
# `sti` switches interrupts on, but not for the instruction behind it. This shadow lets a program write `sti` and `hlt`,
# or `sti` and `ret`, and be sure that nothing comes in between. An NMI does not look at the interrupt flag. Does it
# look at the shadow? The manual says of a physical NMI that it *may* be blocked there, and of a virtual one that it
# *is*. KVM treats every shadow as if it blocked. <!-- claim: 05-01 05-02 -->

# %%
print(lab.SHADED)

# %%
lab.in_the_shade

# %% [markdown]
# One NMI is no trouble for vNMI: it waits in V_NMI, and the processor knows better than anyone when the shadow is over.
# Now for the second.

# %%
lab.two_in_the_shade

# %% [markdown]
# So with vNMI there are still single steps, and rightly so: EVENTINJ looks at no shadow, and KVM must wait for its end.
# <!-- claim: 05-03 -->
#
# (For a year KVM warned about this. It took a window with vNMI for a mistake, whatever the reason. The warning was the
# mistake: commit b4bd55646747, CVE-2024-39483.) <!-- claim: 05-04 -->

# %% [markdown]
# ## 4. The gate
#
# GIF is for hypervisors. While it is 0, nothing comes in from outside: no interrupt, no NMI. A guest that is a
# hypervisor uses it, too, and it must not close the real one. So it has a GIF of its own, which holds back only what is
# meant for the guest. With vGIF the processor keeps it, and `clgi` and `stgi` do not exit. KVM uses vNMI only together
# with vGIF. <!-- claim: 05-05 05-06 -->

# %%
print(lab.GATED)

# %%
lab.behind_the_gate

# %% [markdown]
# A closed gate is not a mask. The processor takes a virtual NMI if V_NMI is 1, *and* V_NMI_MASK is 0, *and* the gate is
# open, *and* there is no shadow. Four conditions, and each has its own place. <!-- claim: 05-07 -->

# %%
lab.the_gate_opens

# %% [markdown]
# This is the work of `svm_enable_nmi_window` (Linux 6.12, `arch/x86/kvm/svm/svm.c`). KVM has itself called back by that
# which ends the block:
#
# | blocked by | ended by | the window |
# |---|---|---|
# | an NMI in service, without vNMI | its IRET | the IRET intercept, then a step |
# | a closed gate | `stgi` | the STGI intercept |
# | a shadow | one instruction | a single step: TF and #DB <!-- claim: 05-08 --> |

# %% [markdown]
# ## 5. Your first guest
#
# So far the programs were given. Now you write one, in assembly. It need not be long; here is a whole one. A cell that
# begins with `%%guest` and a name is a program. The instruction at `work` is new to you: it writes to the processor's
# interrupt controller, whose address is in R15, and what it writes means "send an NMI to myself".

# %% tags=["active-ipynb"]
# %%guest mine
# work:    mov dword [r15], 0x4400
# done:    inc rax
# rest:    hlt
# handler nmi:
#          inc qword [rbx+16]
#          iretq

# %% [markdown]
# You see what it became: addresses, bytes, and your lines. Run it; the machine `"bare"` is bare metal.

# %%
show(Scenario(mine, "bare"), title="My guest on bare metal")

# %% [markdown]
# Change something: a second NMI, say, or `"vnmi"` in the place of `"bare"`. Under KVM the interrupt controller is
# software. Writing to it exits, and KVM posts the NMI.
#
# Now a guest that finds out where it is. On bare metal the latch is one bit. KVM lets *two* wait when none is in
# service, because on bare metal the first of two would be taken at once. It does not ask whether it *could* be taken.
# (The commit message of b4bd55646747 calls this case debatable.) <!-- claim: 05-09 05-10 -->

# %% [markdown]
# ### Exercise 2: the spy
#
# Complete this guest, so that its NMI handler runs more often under KVM than on bare metal. You need no handler: one
# that counts is there already. Replace the `____`.

# %%
spy = """
start:   clgi
         ____
         stgi
rest:    hlt
"""
lab.spy.check(spy)

# %%
# lab.spy.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# Nobody needs such a guest. But every difference that a guest *can* see is one that some guest may trip over. That is
# why this lab holds each policy against bare metal, schedule by schedule.

# %% [markdown]
# ## 6. Not in this entry
#
# Two answers are not enough. Suppose that the guest is an L1, a hypervisor itself, and has just executed VMRUN for its
# own guest. KVM carries that VMRUN out: with its next entry L2 runs. And now there is an NMI.

# %%
lab.not_in_this_entry

# %% [markdown]
# *Blocked* means: I do not know when, so arrange a window. *-EBUSY* means: nothing blocks, but this entry is taken.
# KVM then lets the entry happen and leaves again at once. An event whose delivery was interrupted takes the
# entry, too, for there is one EVENTINJ. That is the story of Lab 06. <!-- claim: 05-11 -->
#
# While L2 runs there is another question: whose NMI is it? It is meant for L1. If L1 intercepts NMIs, it wants to see
# L2 exit.

# %%
lab.not_for_l2

# %% [markdown]
# So `svm_nmi_blocked` asks about that before it asks about mask and shadow, and after it has asked about the gate.
# <!-- claim: 05-12 -->

# %% [markdown]
# ## 7. One name, two questions
#
# Look into two versions of `svm_nmi_blocked`: of "Virtual NMI feature" v4, a patch series of August 2022 that was not
# merged, and of today. With vNMI on, and asked from top to bottom:
#
# | condition | v4 | Linux 6.12 |
# |---|---|---|
# | GIF is 0 | blocked | blocked |
# | L2 runs, and L1 intercepts NMIs | not blocked | not blocked |
# | V_NMI is 1 | blocked | - |
# | V_NMI_MASK is 1 | - | blocked |
# | shadow | blocked | blocked <!-- claim: 05-13 --> |
#
# They differ in one bit, and neither is careless. Here is a run in which KVM has an NMI to look at in all four states
# of the two bits.

# %%
show(lab.two_questions(), title="Two bits, four states")

# %% [markdown]
# ### Exercise 3: the truth table
#
# What does `svm_nmi_allowed` answer, 1 or 0, with v4's `svm_nmi_blocked` and with today's? The gate is open and there
# is no shadow. The machine will ask both of them in that run.

# %%
table = {  # (V_NMI, V_NMI_MASK): (v4, today)
    (0, 0): (..., ...),
    (0, 1): (..., ...),
    (1, 0): (..., ...),
    (1, 1): (..., ...),
}
lab.table.check(table)

# %%
# lab.table.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# v4 asked: *is the slot free?* Its `svm_inject_nmi` put every NMI into V_NMI. While one is in service another may be
# put there, so V_NMI_MASK was of no interest. Today's asks: *may I use EVENTINJ?* EVENTINJ looks at nothing, as you
# know from Lab 02. That no NMI is injected into the handler of another is a promise of software, and this function is
# where it is kept. The slot is filled elsewhere, in `process_nmi`, before anyone asks. <!-- claim: 05-14 -->
#
# When you read "allowed", ask: to do what?

# %% [markdown]
# ## 8. Write it
#
# | in Python | what it is |
# |---|---|
# | `vcpu.nested_run_pending` | L1's VMRUN is to be carried out |
# | `gif_set(vcpu)` | True: the guest's gate is open |
# | `vcpu.guest_mode` | True: L2 is running |
# | `vcpu.features.exit_on_nmi` | True: L1 intercepts NMIs |
# | `vcpu.ops.get_nmi_mask(vcpu)` | True: an NMI is in service |
# | `vcpu.vmcb.int_state.interrupt_shadow` | 1: in a shadow |
# | `for_injection` | True: KVM wants to inject now. False: it only asks whether a halted guest should wake |
#
# If L2 runs and L1 intercepts NMIs, nothing is blocked, but nothing may be *injected* either: the exit to L1 has to
# come first. So for an injection the answer is `EBUSY` there, and otherwise 1. <!-- claim: 05-15 -->

# %% [markdown]
# ### Exercise 4: `nmi_allowed`
#
# Write it. The judge puts it into `legacy`, where EVENTINJ is the only door. It lets NMIs arrive at every moment: in
# handlers, in a shadow and behind a closed gate. Then it asks your function in every state that there is.


# %%
def nmi_allowed(vcpu, for_injection):
    if vcpu.nested_run_pending:
        return EBUSY
    ...  # what else may say no?
    return 1


lab.nmi_allowed.check(nmi_allowed)

# %%
# lab.nmi_allowed.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# Leave one condition out, and see what the judge finds. Some mistakes are seen in eight steps, and some in no schedule
# of NMIs at all. For those it helps only to ask about every state.

# %% [markdown]
# ## 9. And Intel?
#
# There is no Intel processor in this lab; this table is from Intel's manual and from KVM's `vmx.c`.
#
# | question | AMD with vNMI | Intel with "virtual NMIs" |
# |---|---|---|
# | who knows that one is in service? | the processor: V_NMI_MASK | the processor, too <!-- claim: 05-16 --> |
# | who keeps the one that waits? | the processor: V_NMI | KVM, in `nmi_pending` <!-- claim: 05-17 --> |
# | an exit when one may be injected? | no | yes: "NMI-window exiting" <!-- claim: 05-18 --> |
# | and after an IRET that faults? | still masked | not masked any more <!-- claim: 05-19 --> |
#
# AMD has a pending bit and no window, Intel a window and no pending bit. Either is enough for "one more waits": one
# keeps it and needs no call, the other calls and need not keep it. KVM's common code must do for both, and that is why
# `process_nmi` asks through small functions like `is_vnmi_pending`.

# %% [markdown]
# ## What you know now
#
# - Three things block an NMI: one in service, a shadow, a closed gate. Each is a condition of its own, and each has its
#   own end.
# - Where KVM waits itself it asks for a window: the IRET, the STGI, or one step. What is in V_NMI needs none.
# - A third answer, -EBUSY, says: not blocked, but not in this entry.
# - An NMI that L1 intercepts does not care about L2's mask or shadow.
# - v4's "allowed" meant the slot, today's means EVENTINJ.
# - Two NMIs behind a closed gate are one on bare metal and two under KVM.
#
# **More of this:** `vnmi_lab.practice(1, 4)` makes and answers problems without end; the first number says which.
#
# **Next:** [Lab 06: when delivery fails](06_when_delivery_fails.ipynb). Nothing blocks, the NMI is on its way, and then
# a page is missing.

# %%
lab.left()
