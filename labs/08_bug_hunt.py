# %% [markdown]
# # Lab 08: bug hunt
#
# **Goal.** You will solve four real cases. Each begins with what a guest saw; you find the step at which the hypervisor
# went wrong, and mend it. Only then comes the story.
#
# **Time:** about 45 minutes. **You need:** [Lab 04](04_vnmi.ipynb): the three bits and `process_nmi`.
# [Lab 07](07_write_it_yourself.ipynb) helps: there you wrote all of the functions that appear here.
#
# **How sure is this?** What the processor does with vNMI is from the specification, AMD's manual, volume 2, 15.21.10.
# The bugs are in the code, and its authors have described most of them. What is *derived* from the code, by running it
# here, and not confirmed on hardware, is called so.
#
# | word | what it means here |
# |---|---|
# | *symptom* | what one sees of a bug: often late, and far from its place |
# | *localise* | to find the first step that is not as it should be |
# | *tick* | an interrupt of the guest's timer, which makes KVM look at what waits, too |
# | *patch series* | a change of the kernel in the form in which it is posted and reviewed. `v4` is its fourth version |
# | *-rc* | release candidate: a kernel that is tested before its release |
# | *WARN* | an assertion in the kernel: when it fires, a warning with a call trace goes to the host's log |

# %% [markdown]
# ## 1. Case one: the NMI that does not come
#
# A guest is busy. It never halts and never asks its host for anything. Two NMIs arrive at the same moment. This is all
# that the guest can say:

# %%
from vnmi_lab import show
from vnmi_lab.checks import lab08 as lab
from vnmi_lab.hv.svm import open_window
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.machine import Stimulus

lab.symptom("late")

# %% [markdown]
# Now look behind the scenes. The hypervisor is an early KVM with vNMI. It has no `set_vnmi_pending` yet: its
# `svm_inject_nmi` does not write EVENTINJ, it sets V_NMI. An NMI "may be injected" when V_NMI is free.
# <!-- claim: 08-01 -->

# %%
show(lab.run("late"))

# %% [markdown]
# The second NMI is in `nmi_pending`, and there it stays. But it is not lost, is it?

# %%
lab.rescued

# %% [markdown]
# This is what makes such bugs nasty. A guest with a timer would have had its NMI a few milliseconds late, and nobody
# would have seen more than a watchdog that is now and then a little slow. So one looks for the guest in which it shows.

# %% [markdown]
# ### Exercise 1: break it with the fewest
#
# This is the guest. Place as few NMIs as you can so that one of them is *never* taken.

# %%
print(lab.BUSY)

# %%
attack = [...]
lab.stuck.check(attack)

# %%
# lab.stuck.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ### Exercise 2: the step
#
# In the run above, two NMIs arrive at `work`. The symptom shows behind the IRET. That is not where the mistake was
# made. In which step did KVM have the second NMI in hand for the last time, and give it up? The panel beside the
# timeline names the functions that ran in each step.

# %%
step = ...
lab.where.check(step)

# %%
# lab.where.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 2. The ghost
#
# The same hypervisor has a second bug, and it needs more patience. Its `process_nmi` is that of the old days: two may
# wait when none is in service, one when one is.

# %%
lab.ghost

# %%
lab.symptom("ghost")

# %% [markdown]
# At `done` nobody has sent an NMI for a long time. The guest gets one all the same: a *ghost*. It is the third of
# those that arrived in the handler, when one was in service and one was in V_NMI. It should have merged with the one
# in V_NMI. Instead it was parked in `nmi_pending`, until the tick came.

# %% [markdown]
# ### Exercise 3: one line
#
# Mend `process_nmi`. One line is missing.


# %%
def process_nmi(vcpu):
    limit = 1 if vcpu.ops.get_nmi_mask(vcpu) or vcpu.nmi_injected else 2
    ...  # one line: vcpu.vmcb.int_ctl.v_nmi_pending
    vcpu.nmi_pending = min(vcpu.nmi_pending + vcpu.nmi_queued, limit)
    vcpu.nmi_queued = 0
    vcpu.make_request(REQ_EVENT)


lab.process_nmi.check(process_nmi)

# %%
# lab.process_nmi.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# **The story.** This is "Virtual NMI feature", version 4, posted to the KVM list on 29 August 2022. A maintainer of
# KVM had described the stuck second NMI in July, in the review of an earlier version: the processor does not exit when
# its mask falls, so who will look? Version 4 tries to mend that: its `svm_enable_nmi_window` returns early only while
# V_NMI is set. But at that moment V_NMI *is* set. That it still gets stuck, and that it has the ghost, is derived from
# its code. <!-- claim: 08-02 08-03 -->
#
# The first bug took more than a line. What was merged in March 2023, for Linux 6.4 (commit fa4c027a7956), turns things
# round: `process_nmi` itself fills V_NMI, by `set_vnmi_pending`, and the other NMI goes by EVENTINJ. Two doors, one
# VMRUN. And `process_nmi` counts what is in V_NMI: your line. <!-- claim: 08-04 -->

# %% [markdown]
# ## 3. Case two: lost, and multiplied
#
# Spring 2023. The new design is in the release candidates of Linux 6.4. A report comes in: guests with many processors
# hang while they boot, as if one of their processors had never heard of an NMI. But when two NMIs arrive together,
# nothing is wrong:

# %%
lab.symptom("pair")

# %% [markdown]
# ### Exercise 4: lose one
#
# So the symptom must be found first. Place two NMIs so that one of them is lost. The labels are `"start"`, `"work"`,
# `"more"` and `"done"`, and in the handler `"handler"` and `"leave"`.

# %%
attack = [Stimulus(at="work"), ...]
lab.lose.check(attack)

# %%
# lab.lose.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# Now look where it is lost.

# %%
lab.dropped

# %% [markdown]
# `process_nmi` is as it should be, you wrote the same in Lab 04: the limit is 2 when none is in service, 1 when one is,
# and one fewer if `is_vnmi_pending` says that the slot is taken. So somebody told it something false. Here is what it
# found in `int_ctl`, and how many NMIs it accepted, each time that it ran:

# %%
lab.observed()

# %% [markdown]
# ### Exercise 5: which bit?
#
# You do not have the code of this `is_vnmi_pending`, and you do not need it. Which bit of `int_ctl` does it test?

# %%
bit = ...
lab.which_bit.check(bit)

# %%
# lab.which_bit.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# One would think that a hypervisor which believes the slot to be full can only lose. But the bit is wrong in both
# directions. This guest closes GIF for a while.

# %%
print(lab.CLOSED)

# %% [markdown]
# ### Exercise 6: one too many
#
# Place three NMIs so that the guest takes *more* of them than it would with the right bit.

# %%
attack = [Stimulus(at="closed"), ...]
lab.one_more.check(attack)

# %%
# lab.one_more.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ### Exercise 7: mend it
#
# Here is the function. The judge tries yours with GIF 1 and with GIF 0.


# %%
def is_vnmi_pending(vcpu):
    bits = vcpu.vmcb.int_ctl
    return bool(bits.v_nmi_enable and bits.v_nmi_blocking)


lab.is_vnmi_pending.check(is_vnmi_pending)

# %%
# lab.is_vnmi_pending.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# **The story.** `svm_is_vnmi_pending` in `arch/x86/kvm/svm/svm.c` tested `V_NMI_BLOCKING_MASK` where
# `V_NMI_PENDING_MASK` was meant. Commit b2ce89978889, in May 2023, changed the one word; it fixes fa4c027a7956. The
# bug was noticed far from its place: Windows Server 2019 guests with more than 16 processors hung while they booted,
# and with the module parameter `vnmi=0` they did not. Three tests of kvm-unit-tests failed, "multiple nmi" and
# "pending nmi" among them. <!-- claim: 08-05 -->
#
# That it delivers too many behind a closed GIF is derived; nobody seems to have noticed. <!-- claim: 08-06 -->
#
# And the names had been changed in the review so that *nobody would misread them*: AMD's manual calls bit 12
# V_NMI_MASK, and in KVM a name in `_MASK` is a mask for one bit of a word. <!-- claim: 08-07 -->

# %% [markdown]
# ## 4. Case three: the alarm
#
# In the third case the guest has nothing to complain about. Here are two kernels, with the same guest, which closes
# GIF, and the same NMIs:

# %%
lab.symptom("alarm")

# %% [markdown]
# Between the two kernels one thing differs. The older one asserts, in `svm_enable_nmi_window`: *with vNMI nobody ever
# asks for a window*. The processor keeps the mask, and there is no window to wait for. Whoever gets there has a bug. Is
# that so?

# %% [markdown]
# ### Exercise 8: the counterexample
#
# Place two NMIs so that the assertion fires, although KVM does nothing wrong. The guest is that of exercise 6. Its
# labels are `"start"`, `"closed"`, `"opening"` and `"open"`, and in the handler `"handler"` and `"leave"`.

# %%
attack = [...]
lab.alarm.check(attack)

# %%
# lab.alarm.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# Here is one such run.

# %%
show(lab.run("alarm"))

# %% [markdown]
# The reasoning forgot that a mask is not the only thing that holds an NMI back. Behind a closed GIF, or in the shadow
# of an `sti`, one NMI fits into V_NMI; for the other KVM needs an exit. It intercepts `stgi`, or it steps over the
# shadow. There *is* a window, and it opens. <!-- claim: 08-09 -->
#
# (Bare metal would have kept one NMI only, since its latch is one deep. KVM gives the guest both, because its
# `process_nmi` does not look at GIF. That is known, and allowed.) <!-- claim: 08-08 -->

# %% [markdown]
# ### Exercise 9: a better assertion
#
# Mend the condition. The judge wants silence in a hypervisor that is right, and a warning in one that waits for the
# processor's mask to fall. (`open_window` is the rest of the function, as in KVM.)


# %%
def enable_nmi_window(vcpu):
    masked = vcpu.ops.get_nmi_mask(vcpu)
    if vcpu.vmcb.int_ctl.v_nmi_enable:
        vcpu.warnings += 1
    open_window(vcpu, masked=masked)


lab.enable_nmi_window.check(enable_nmi_window)

# %%
# lab.enable_nmi_window.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# **The story.** Commit b4bd55646747, May 2024, in Linux 6.10. The false alarm was found with a test that sends NMIs to
# a guest in a loop of `clgi` and `stgi`. The delivery had been right all along. But a guest could trigger the warning,
# and there are hosts that are told to panic at one (`panic_on_warn`): it has a number, CVE-2024-39483. The author
# noted that the warning could still fire afterwards, for a reason not fully understood. An assertion is a claim about
# *all* states, and for such claims one wants a judge. <!-- claim: 08-10 -->

# %% [markdown]
# ## 5. Case four: "masked cannot pend"
#
# The last case is an idea. Another hypervisor learns vNMI. Its author reads: bit 12, V_NMI_MASK, NMIs are masked. So an
# NMI that arrives now cannot pend. Here is the idea, put into KVM:

# %%
lab.symptom("xen")

# %%
show(lab.run("xen"))

# %% [markdown]
# ### Exercise 10: mend it
#
# One condition in it is one too many. Which word means "one in service, one queued"?


# %%
def set_vnmi_pending(vcpu):
    bits = vcpu.vmcb.int_ctl
    if not bits.v_nmi_enable or bits.v_nmi_pending or bits.v_nmi_blocking:
        return False
    vcpu.vmcb.update("int_ctl", v_nmi_pending=1)
    return True


lab.set_vnmi_pending.check(set_vnmi_pending)

# %%
# lab.set_vnmi_pending.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# **The story.** Xen got vNMI in February 2026. In the review of the third version a maintainer found that an NMI is
# dropped while NMIs are masked, and answered that both bits set is a state like any other: one NMI in progress, one
# queued behind it. (What you mended is the idea in our KVM, not Xen's code.) <!-- claim: 08-11 -->
#
# A masked NMI is not refused, it *waits*. That is the very first thing that Lab 01 said about NMIs.

# %% [markdown]
# ## 6. The line-up
#
# All four before the judge: three NMIs, at every moment there is, with a guest that does nothing unusual.

# %%
lab.lineup()

# %% [markdown]
# Three of them are caught, each within a few steps. The third suspect gets away with it: this guest leaves GIF alone,
# and there is no law against a warning. A judge sees only the states that its question contains. To ask the right
# question is still up to you.

# %% [markdown]
# ## What you know now
#
# - The place of a symptom is not the place of the bug. Look for the first step that is not as it should be.
# - Patch v4: an NMI waits where nobody looks (stuck), or one waits too many (the ghost). What sits in V_NMI counts.
# - v6.4-rc: the mask taken for the slot. Such a bug errs in both directions: it loses, and it multiplies.
# - CVE-2024-39483: NMIs are held back by more than the mask. An assertion needs a counterexample hunt, too.
# - "Masked cannot pend": it can. V_NMI = 1 and V_NMI_MASK = 1 is one in service and one queued.
#
# Four times the same two bits were mixed up or left uncounted: *waiting* and *in service*. If you keep them apart, you
# will see the next one.
#
# **More of this:** `vnmi_lab.practice(1, 5)` makes and answers problems without end; the first number says which.
#
# **Next:** [Lab 09: what it costs](09_what_it_costs.ipynb): you have seen what is right. How many exits does it take,
# and how do you measure that on a real machine?

# %%
lab.left()
