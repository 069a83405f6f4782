# %% [markdown]
# # Lab 07: write it yourself
#
# **Goal.** You will build the NMI part of a hypervisor, from one that knows nothing to one with vNMI. You begin with
# what breaks it, write the function that mends that, and go on with what breaks it then.
#
# **Time:** about 45 minutes. **You need:** [Lab 03](03_iret_interception.ipynb) and [Lab 04](04_vnmi.ipynb). Of [Lab
# 05](05_blocking_rules.ipynb) you need that a GIF of 0 and an interrupt shadow hold an NMI back, of
# [Lab 06](06_when_delivery_fails.ipynb) what EXITINTINFO is.
#
# **How sure is this?** What the processor does with vNMI is from the specification, AMD's manual, volume 2, 15.21.10.
# It is not verified on hardware.
#
# | word | what it means here |
# |---|---|
# | *hook* | one function of a hypervisor that can be exchanged. Yours have the names of KVM's, without the `svm_` |
# | *policy* | all hooks together: one way to deliver NMIs |
# | *schedule* | when the NMIs arrive, seen from the machine: "2 steps, NMI, 7 steps" |
# | *law* | a sentence that no schedule may make false, such as "no NMI is lost" |
# | *judge* | tries every schedule of a few NMIs, and watches every state that the machine reaches |
# | *counterexample* | a schedule that breaks a law. The judge gives a shortest one |
# | *window* | the moment from which the NMI that waits may be injected. KVM wants an exit there |

# %% [markdown]
# ## 1. What breaks it?
#
# Here is the emptiest hypervisor there is. When an NMI waits it writes it to EVENTINJ, and it remembers nothing. We
# let the judge loose on it, with two NMIs.

# %%
from vnmi_lab import show, state_graph
from vnmi_lab.checks import lab07 as lab
from vnmi_lab.hv.svm import borrow_step
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.machine import Stimulus

found = lab.breaks("nothing")
found

# %%
show(found.run, cursor=found.step)

# %% [markdown]
# The timeline stands at the step that breaks the law. You know this picture from Lab 02: the second NMI is taken in the
# handler of the first. What is new is that nobody had to think of it. The judge went through all that can happen, and
# this is the shortest of what should not.
#
# You can look at its work. Each box below is a group of states that look alike, each arrow something that happened.
# This is the policy `blind`, which injects just as blindly. Walk along its counterexample with the right arrow key.

# %%
state_graph("blind", nmis=2)

# %% [markdown]
# That is how this whole lab goes. You write a hook, the judge puts it into the *finished* hypervisor and tries it
# there, by itself. Then we put what we have so far into the empty one, and ask again: what breaks it now?

# %% [markdown]
# ## 2. `inject_nmi`: keep a note
#
# The first hook is done for you. Who injects an NMI must write down that one is in service, since the processor sets
# no mask for it, and must ask for an exit at the IRET that will end it. <!-- claim: 07-01 -->


# %%
def inject_nmi(vcpu):
    vcpu.vmcb.event_inj = 0x80000200  # valid, of the type NMI
    vcpu.nmi_masked = True
    vcpu.vmcb.intercept("iret")
    vcpu.nmi_injections += 1


# %% [markdown]
# In KVM that is `svm_inject_nmi`. With this note in place, do two NMIs still nest?

# %%
lab.nobody_asks

# %% [markdown]
# A note helps only if somebody reads it. The processor cannot, the note is KVM's own; and EVENTINJ asks no flag and no
# mask (AMD manual, volume 2, 15.20). What Lab 02 found out is worth a sentence to remember: **"allowed" is software's
# promise.** Nobody else keeps it. <!-- claim: 07-02 -->

# %% [markdown]
# ## 3. `nmi_allowed`: ask first
#
# So KVM asks a function before each injection, `svm_nmi_allowed`, and that asks `svm_nmi_blocked`. Yours is both in
# one. What does it have to look at? At whatever would make an NMI wait on bare metal, for injection walks through all
# of it. <!-- claim: 07-03 -->
#
# | in Python | what it is |
# |---|---|
# | `vcpu.vmcb.int_ctl.v_gif` | 0: the guest has closed GIF |
# | `vcpu.vmcb.int_state.interrupt_shadow` | 1: the guest stands directly behind an `sti` |
# | `vcpu.ops.get_nmi_mask(vcpu)` | True: an NMI is in service |

# %% [markdown]
# ### Exercise 1: `nmi_allowed`
#
# Replace the `...`. The answer is a number: 1 for "inject it now", 0 for "not now". (`for_injection` matters for a
# hypervisor in a hypervisor only.)


# %%
def nmi_allowed(vcpu, for_injection):
    gif = vcpu.vmcb.int_ctl.v_gif
    shadow = vcpu.vmcb.int_state.interrupt_shadow
    masked = vcpu.ops.get_nmi_mask(vcpu)
    return ...  # 1 or 0


lab.nmi_allowed.check(nmi_allowed)

# %%
# lab.nmi_allowed.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 4. `iret_interception`: let it go
#
# No NMI nests any more. So all is well? Our hypervisor has `inject_nmi` and `nmi_allowed` now. Nothing else is in it.

# %%
lab.round_and_round

# %% [markdown]
# It never got out of its first handler. You have written what is missing here in Lab 03: the function for the IRET's
# exit. It stops intercepting IRET, notes where it is and that it waits, and asks for a look. It does not unmask, as the
# exit comes before the IRET. Put it in; what breaks now? <!-- claim: 07-04 -->

# %%
found = lab.breaks("iret_interception")
found

# %%
show(found.run, cursor=found.step)

# %% [markdown]
# Follow `nmi_masked` to the end of the run. It went to 1 with the first NMI, and there it stays: `iret_interception`
# left a note, and nobody reads this one either. The second NMI waits for ever.

# %% [markdown]
# ## 5. `complete_interrupts`: what has become of it?
#
# KVM has a function that runs after *every* exit, before the handler of that exit: `svm_complete_interrupts`. It asks
# two questions about what was begun before. <!-- claim: 07-05 -->
#
# - The IRET that exited: has it been executed? Then RIP has moved away from it, and no NMI is in service any more.
# - The NMI that was injected: has it arrived? If an exit fell into its delivery, a page that is not there for instance,
#   then EXITINTINFO holds it, and it must be injected once more.
#
# | in Python | what it is |
# |---|---|
# | `vcpu.awaiting_iret_completion` | True: an IRET has exited, and this is not yet over |
# | `vcpu.nmi_iret_rip` | where it stands |
# | `vcpu.vmcb.rip` | where the guest stands |
# | `vcpu.nmi_injected` | True: an NMI was injected, and it is not known whether it has arrived |
# | `vcpu.vmcb.exit_int_info.valid` | 1: it has not |
# | `vcpu.make_request(REQ_EVENT)` | on the way in, look at what waits, and inject if that may be |

# %% [markdown]
# ### Exercise 2: `complete_interrupts`
#
# Write it. Here KVM must also ask for a look itself: when the mask falls, and when something is to be injected again.


# %%
def complete_interrupts(vcpu):
    ...  # is the IRET over? Then no NMI is in service
    vcpu.nmi_injected = False  # what was injected has arrived
    ...  # or has it not?


lab.complete_interrupts.check(complete_interrupts)

# %%
# lab.complete_interrupts.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 6. `enable_nmi_window`: be there in time
#
# Now every NMI is delivered, and none too early. What is left to complain about?

# %%
lab.too_late

# %% [markdown]
# On bare metal the second NMI comes directly behind the IRET. Here the guest goes on, and it may be long before it
# exits by itself. A watchdog that comes late has not watched. The judge has a law for that, too.

# %%
found = lab.breaks("complete_interrupts")
found

# %% [markdown]
# So KVM calls a hook when an NMI is left that may not be injected now, `svm_enable_nmi_window`. It promises: *the guest
# will exit as soon as this NMI may be injected*. How it keeps the promise depends on what the NMI waits for.
# <!-- claim: 07-06 -->
#
# | the NMI waits for | what makes the guest exit there? |
# |---|---|
# | an IRET that has not exited yet | the IRET intercept, which `inject_nmi` has set |
# | an IRET that has exited, and is next | nothing; it is one instruction: `borrow_step(vcpu)` steps over it |
# | the end of a shadow | nothing; again it is one instruction |
# | GIF | nothing. `stgi` opens it, and can be intercepted: `vcpu.vmcb.intercept("stgi")` |

# %% [markdown]
# ### Exercise 3: `enable_nmi_window`
#
# Write it. A step costs an exit, so the judge also complains about one that is not needed.


# %%
def enable_nmi_window(vcpu):
    masked = vcpu.ops.get_nmi_mask(vcpu)
    ...


lab.enable_nmi_window.check(enable_nmi_window)

# %%
# lab.enable_nmi_window.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# That was the last hook of the old way. With these five the hypervisor does what KVM did up to Linux 6.3, and the judge
# finds nothing against it. Look back at what made the trouble: only the two things that the guest does by itself, the
# IRET and the end of a shadow. There is no exit behind either of them. <!-- claim: 07-07 -->

# %% [markdown]
# ## 7. A new processor
#
# Now the same hypervisor moves to a processor with vNMI, and two hooks read the new bits. `get_nmi_mask` asks
# V_NMI_MASK. `inject_nmi` keeps no note and needs no IRET intercept there, since VMRUN sets V_NMI_MASK when EVENTINJ
# holds an NMI. That is all we change. <!-- claim: 07-08 -->

# %%
lab.nothing_exits

# %% [markdown]
# The old promise cannot be kept here. When V_NMI_MASK falls, nothing exits; there is no window to be opened. An NMI
# that has to wait must wait *in the processor*, which will see the mask fall. So it must be handed over, and that is
# what the two new hooks are for. `is_vnmi_pending` says whether the slot, V_NMI, is taken. `set_vnmi_pending` puts one
# in. <!-- claim: 07-09 -->

# %% [markdown]
# ### Exercise 4: `set_vnmi_pending`
#
# Write it. It answers True when the processor has the NMI now. It answers False when there is no room, and False when
# there is no slot at all: the same hypervisor must run on old processors, where V_NMI_ENABLE is 0. To set a bit, write
# `vcpu.vmcb.update("int_ctl", v_nmi_pending=1)`.


# %%
def set_vnmi_pending(vcpu):
    bits = vcpu.vmcb.int_ctl  # bits.v_nmi_enable, bits.v_nmi_pending
    ...


lab.set_vnmi_pending.check(set_vnmi_pending)

# %%
# lab.set_vnmi_pending.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# Somebody must call it: `process_nmi`, which accepts what has arrived. Suppose that it counts as it always did, two
# when none is in service and one when one is, and then hands one over. What breaks now?

# %%
found = lab.breaks("set_vnmi_pending")
found

# %%
show(found.run, cursor=found.step)

# %% [markdown]
# Three NMIs, and one is left over in `nmi_pending`. Look at the step behind the last arrival. One NMI was in service
# and one sat in V_NMI. Bare metal would have had no room for a third, but this `process_nmi` looked at `nmi_pending`
# alone, saw 0, and accepted it. The slot has to be counted as well.

# %% [markdown]
# ### Exercise 5: `process_nmi`
#
# You wrote it in Lab 04, with the words beside it. Now from memory. Accept, hand one over, ask for a look at what is
# left.


# %%
def process_nmi(vcpu):
    ops = vcpu.ops  # get_nmi_mask, is_vnmi_pending, set_vnmi_pending
    ...


lab.process_nmi.check(process_nmi)

# %%
# lab.process_nmi.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 8. All of it
#
# So far each of your hooks ran among finished ones. Here they run together: one hypervisor, on an old processor and on
# a new one, in four situations. Where you have not written one yet, KVM's stands in.

# %%
lab.hypervisor(nmi_allowed, complete_interrupts, enable_nmi_window, set_vnmi_pending, process_nmi)

# %% [markdown]
# And this is what it spends when a second NMI arrives in the handler of the first. `IRET interception` is what you had
# after section 6, `vNMI` what you have now.

# %%
lab.price()

# %% [markdown]
# The exits at the end of an NMI are gone. **The kicks stay.** V_NMI is a mailbox that the processor reads at VMRUN, so
# a guest that runs must be made to exit before it can be told anything. <!-- claim: 07-10 -->

# %% [markdown]
# ## 9. Break it
#
# Last, the other side. Somebody else has written a hypervisor for the old processor. All its hooks are like yours, but
# its `process_nmi` lets two NMIs wait at any time, because "one more cannot hurt".
#
# The guest is that of Lab 03. Its labels are `"start"`, `"work"`, `"more"` and `"done"` in the program, `"handler"` and
# `"leave"` in the handler.

# %% [markdown]
# ### Exercise 6: one too many
#
# Place three NMIs so that the guest takes more of them than it would on bare metal. `Stimulus(at="work", times=2)` are
# two at one moment.

# %%
attack = [Stimulus(at="work"), ...]
lab.break_it.check(attack)

# %%
# lab.break_it.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# Why does it hurt? A driver that counts, a profiler that reads a counter once for each NMI, a watchdog that takes the
# second one for a hang: they were written for a processor that remembers one.

# %% [markdown]
# ## What you know now
#
# - `inject_nmi` writes EVENTINJ and keeps a note; `nmi_allowed` reads it, and GIF, and the shadow. "Allowed" is
#   software's promise.
# - `iret_interception` only makes a note. `complete_interrupts`, after every exit, asks whether the IRET is over, and
#   whether the injected NMI has arrived.
# - `enable_nmi_window` makes the guest exit in time: by the IRET's exit, by the STGI's, or by one borrowed step.
# - With vNMI nothing exits when the mask falls. What waits must be handed to the processor, by `set_vnmi_pending`, and
#   `process_nmi` must count what is there already.
# - The kick stays.
#
# Seven small functions, and each is there because of a schedule that breaks the ones before.
#
# **Next:** [Lab 08: bug hunt](08_bug_hunt.ipynb). The people who wrote these functions first got some of them wrong,
# and you will find where.

# %%
lab.left()
