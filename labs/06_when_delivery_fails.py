# %% [markdown]
# # Lab 06: when delivery fails
#
# **Goal.** You will see an NMI that is no longer pending and not yet delivered, and write the code that saves it. Then
# you will say, for any moment, where an NMI sits, and move a guest to another machine without losing one.
#
# **Time:** about 45 minutes. **You need:** [Lab 04](04_vnmi.ipynb): V_NMI, V_NMI_MASK and EVENTINJ.
#
# **How sure is this?** What vNMI does here is from the specification, AMD's manual, volume 2, section 15.21.10, and
# from the code of Linux. It is not verified on hardware.
#
# | word | what it means here |
# |---|---|
# | *to deliver* | to enter the handler: find it in the IDT, and write down on the stack where the guest was |
# | *IDT* | the table in the guest's memory that has the address of every handler |
# | *nested paging* | a second table, KVM's, that says where each page of the guest's memory really is |
# | *NPF* | nested page fault: a page has no entry in that table. It exits to KVM, and the guest knows nothing of it |
# | *EXITINTINFO* | a field of the VMCB: which event was being delivered when the guest exited |
# | *to requeue* | to put such an event back, so that it is delivered after all |
# | *user space* | the program above KVM that owns the virtual machine, such as QEMU |

# %% [markdown]
# ## 1. What a delivery needs
#
# Here is an NMI under vNMI, as you know it. Stop at the step *NMI taken*, and look at the stack.

# %%
from vnmi_lab import Stimulus, show
from vnmi_lab.checks import lab06 as lab
from vnmi_lab.hv.vcpu import REQ_EVENT

show(lab.delivered_late(absent=()), title="One NMI, and every page is there")

# %% [markdown]
# What is one step here is several in the processor. It clears V_NMI and sets V_NMI_MASK, and only then it turns to
# memory: it reads the handler's address from the IDT, and it writes five words on the stack. <!-- claim: 06-01 -->
#
# A hypervisor does not keep all of a guest's memory at hand. Pages are brought in when they are needed, moved, shared
# and swapped out, and the guest is not to notice. So any of these accesses may find that its page is not there: NPF, an
# exit, in the *middle* of the delivery.

# %% [markdown]
# ## 2. The report

# %%
lab.where_now

# %% [markdown]
# EXITINTINFO has the format of EVENTINJ, which you know from Lab 02:
#
# | bits | what | for an NMI |
# |---|---|---|
# | 31 | valid | 1 |
# | 10 to 8 | type | 2 |
# | 7 to 0 | vector | 2, if the processor took the NMI by itself |
#
# The manual says that this is where the event's vector goes. That it says 2 for an NMI that came from V_NMI follows
# from there, and nobody has looked at it on hardware yet. <!-- claim: 06-02 -->
#
# Such a report is easily overlooked: most exits do not come from the middle of a delivery, and then it is 0.

# %%
lab.forgotten

# %% [markdown]
# Without vNMI it is worse. Below is what the judge of Lab 03 saw when *one* NMI came to `m5`, a KVM without vNMI that
# forgets in the same way. Each box is a group of states that look alike, each arrow something that happened. Press
# **Step**, until you come to the box in which a law breaks. Not only is the NMI lost: KVM's own mask is up, and there
# is no handler whose IRET could take it down.

# %%
from vnmi_lab import state_graph

state_graph("m5", nmis=1)

# %% [markdown]
# Back to vNMI. V_NMI_MASK is worth a look, too. No handler has begun, so #VMEXIT saves the mask as 0. If it did not,
# the guest would be masked with no IRET to come. KVM can use the ordinary way back in: EVENTINJ, which sets the mask.
# <!-- claim: 06-03 06-04 -->

# %% [markdown]
# ### Exercise 1: four values
#
# One NMI, taken from V_NMI, and the page of the IDT is missing. Write down the two words and the two bits: the first
# three as the exit leaves them, and EVENTINJ as KVM's next VMRUN finds it.

# %%
words = {
    "EXITINTINFO": ...,
    "V_NMI": ...,
    "V_NMI_MASK": ...,
    "EVENTINJ": ...,
}
lab.words.check(words)

# %%
# lab.words.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 3. Where is it now?
#
# This is the same run again, with everything left out but the NMI. A line is a move: the step, who moved it, and where
# it is then.

# %%
lab.token()

# %% [markdown]
# An NMI that has arrived and is not delivered sits in one of *four* places. If you take one thing from this lab, take
# this list.
#
# | place | what it means | whose it is |
# |---|---|---|
# | `nmi_queued` | posted: somebody has sent it, and nobody has looked | KVM's |
# | `nmi_pending` | accepted: it is one of those that may wait | KVM's |
# | V_NMI | in the slot: the processor takes it when it can | both |
# | EVENTINJ | on its way: the guest takes it first of all. KVM notes `nmi_injected` | both <!-- claim: 06-05 --> |
#
# EXITINTINFO is the other face of the fourth: on its way, but the way was blocked.
#
# "Masked" is in three places, and a guest has one of them at a time: the physical mask of Lab 01; `nmi_masked`, KVM's
# own, of Lab 03; V_NMI_MASK of Lab 04. Here are two NMIs without vNMI. <!-- claim: 06-06 -->

# %%
lab.token_legacy()

# %% [markdown]
# Now back to the missing page. KVM has injected the NMI again. That delivery may fail, too.

# %%
lab.twice

# %% [markdown]
# (What is V_NMI_MASK after an exit in the delivery of an *injected* NMI? VMRUN has set it, and the manual is silent
# about this case. This lab assumes 0, as if the NMI had come by itself, and has a switch for the other answer:
# `injected_nmi_exit_keeps_mask`.) <!-- claim: 06-07 -->

# %% [markdown]
# ### Exercise 2: follow it
#
# One NMI under vNMI, and *two* pages are missing: first the IDT's, then the stack's. Write down every place to which
# the NMI comes, until it is delivered. The places are `"nmi_queued"`, `"nmi_pending"`, `"V_NMI"`, `"EVENTINJ"` and
# `"EXITINTINFO"`, and one may come more than once.

# %%
visited = ["nmi_queued", ...]
lab.visited.check(visited)

# %%
# lab.visited.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 4. Put it back
#
# KVM reads EXITINTINFO in `svm_complete_interrupts` (Linux 6.12, `arch/x86/kvm/svm/svm.c`), right after every exit,
# before it looks at what the exit was about. You know this function: in Lab 03 it compared RIP. Its second half is
# about events: <!-- claim: 06-08 -->
#
# | in Python | what it is |
# |---|---|
# | `vcpu.vmcb.exit_int_info` | EXITINTINFO, with `.valid`, `.type` and `.vector` |
# | `vcpu.nmi_injected` | True: an NMI is on its way. On the way in, KVM writes it to EVENTINJ again |
# | `vcpu.make_request(REQ_EVENT)` | on the way in, look at what there is to inject |
#
# Exceptions and interrupts are put back in the same way. Leave them out here.

# %% [markdown]
# ### Exercise 3: `complete_interrupts`
#
# Write the half that is about NMIs. The judge takes pages away and lets up to three NMIs arrive, at every moment there
# is.


# %%
def complete_interrupts(vcpu):
    event = vcpu.vmcb.exit_int_info
    vcpu.nmi_injected = False  # it has arrived
    ...  # or has it?


lab.complete_interrupts.check(complete_interrupts)

# %%
# lab.complete_interrupts.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# Why not simply put it back into V_NMI? With one NMI that works. Try it: `vcpu.ops.set_vnmi_pending(vcpu)`, and see
# which schedule the judge finds. The slot may be taken by another NMI in the meantime.
#
# An interrupted event goes first, before anything new. That is what -EBUSY was for in Lab 05: the entry is taken.

# %% [markdown]
# ## 5. Half-way through an IRET
#
# Deliveries are not the only thing that can be cut in two. An IRET reads five words from the stack, and their page may
# be missing as well. Here is a handler that returns from a frame on a page of its own.

# %%
print(lab.WORKS, lab.FAR_HANDLER)

# %%
lab.half_way

# %% [markdown]
# It is the IRET's *completion* that unmasks. With vNMI the processor sees to it. Without, it is the reason why KVM
# compares RIP: after such an exit RIP still stands at the IRET. <!-- claim: 06-09 -->
#
# (A page fault of the guest's own, a #PF, is another story. It is an exception with a handler, and that handler ends
# with an IRET, which unmasks, as the `int3` did in Lab 01. The mask falls with *any* IRET.) <!-- claim: 06-10 -->

# %% [markdown]
# ## 6. A new home
#
# A virtual machine may move. User space stops it, reads its state, sends that to another host, and writes it into a new
# vCPU there. Registers and memory go as they are. V_NMI cannot: the new host makes a new VMCB, and perhaps it has no
# vNMI. So KVM translates. This is the part of `KVM_GET_VCPU_EVENTS` that is about NMIs:
#
# | field | what it says |
# |---|---|
# | `nmi.injected` | one is on its way |
# | `nmi.pending` | how many wait |
# | `nmi.masked` | one is in service |
#
# In this guest the handler talks to a device, and so it stops in the middle of its work.

# %%
print(lab.WORKS, lab.STOPS)

# %%
lab.reported

# %% [markdown]
# Since Linux 6.4 `pending` is `nmi_pending` *plus* V_NMI. The new home treats the number as if that many had just
# arrived: it goes to `nmi_queued`, and `process_nmi` decides where they go from there. Follow them:
# <!-- claim: 06-11 06-12 -->

# %%
lab.token_moved()

# %% [markdown]
# ## 7. Left behind
#
# The patches that were posted in August 2022, v4, had V_NMI. But they left this interface as it was.

# %%
lab.left_behind

# %% [markdown]
# One NMI lost for every guest that moves at the wrong moment. And this is only the half that reports. The half that
# restores calls `set_nmi_mask`, and v4's does nothing unless the vCPU is in system management mode: the new home does
# not know that an NMI is in service. <!-- claim: 06-13 06-14 -->

# %% [markdown]
# ### Exercise 4: move it at the wrong moment
#
# Under v4, use at most two NMIs and one move, so that the second NMI nests in the first. A move is
# `Stimulus(at="saved", what="migrate")`: it happens when the guest has stopped and goes on at `saved`. The other labels
# are `"start"`, `"work"`, `"more"`, `"done"`, `"handler"` and `"leave"`.

# %%
schedule = [Stimulus(at="work"), ...]
lab.move.check(schedule)

# %%
# lab.move.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 8. How KVM tests this
#
# The tests of the KVM project (kvm-unit-tests, `x86/eventinj.c`) take pages away, as you did, and count.
#
# - **NMI.** The IDT's page is gone when an NMI is delivered, and the handler sends another one. The handler must run
#   twice, the second time after the first one's IRET. <!-- claim: 06-15 -->
# - **NMI IRET.** The page that the handler returns from is gone, and an NMI waits. It must be taken behind the IRET,
#   and not at it. <!-- claim: 06-16 -->
#
# Both are in this lab's library as well, as scenarios: `"self"` and `"iret-npf"`.

# %%
show("self", title="The IDT is gone, and the handler sends another NMI", controls=False)

# %% [markdown]
# ## What you know now
#
# - A delivery is several accesses to memory, and each of them can end in an exit.
# - Then V_NMI and V_NMI_MASK are 0, and EXITINTINFO is the only one that knows of the NMI.
# - `svm_complete_interrupts` puts it back into `nmi_injected`, and the next entry carries it in EVENTINJ.
# - A pending NMI is in one of four places: `nmi_queued`, `nmi_pending`, V_NMI, or on its way.
# - Only a completed IRET unmasks.
# - To move a guest is to count all places, and to restore the mask with them.
#
# **Next:** [Lab 07: write it yourself](07_write_it_yourself.ipynb), a hypervisor from nothing to vNMI, hook by hook.

# %%
lab.left()
