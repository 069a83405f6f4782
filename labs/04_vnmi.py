# %% [markdown]
# # Lab 04: vNMI
#
# **Goal.** You will see a processor that keeps the NMI mask of a guest itself: three bits, and no exits. You will say
# what each bit does, what is left for KVM to do, and write that part.
#
# **Time:** about 45 minutes. **You need:** [Lab 03](03_iret_interception.ipynb): why KVM intercepts IRET, and what that
# costs.
#
# **How sure is this?** What vNMI does here is from the specification, AMD's manual, volume 2, section 15.21.10, and
# from the code of Linux. It is not verified on hardware.
#
# | word | what it means here |
# |---|---|
# | *vNMI* | virtual NMI: a feature of newer AMD processors. Linux uses it from version 6.4 on <!-- claim: 04-01 --> |
# | *`int_ctl`* | a field of the VMCB, at offset 60h. Among other things it holds the three bits <!-- claim: 04-02 --> |
# | *V_NMI* | bit 11: an NMI is waiting for the guest. In the pictures: `v_nmi_pending` |
# | *V_NMI_MASK* | bit 12: an NMI is in service in the guest. In the pictures: `v_nmi_blocking` |
# | *V_NMI_ENABLE* | bit 26: look at the other two. In the pictures: `v_nmi_enable` <!-- claim: 04-03 --> |
# | *slot* | another word for V_NMI: it has room for one NMI |

# %% [markdown]
# ## 1. One NMI, once more
#
# This is how Lab 03 delivered an NMI: a kick to bring it, an IRET exit for its end, and a mask in software. Go through
# it once more, and watch `nmi_masked` and the arrows up, the exits.

# %%
from vnmi_lab import show
from vnmi_lab.checks import lab04 as lab
from vnmi_lab.hv.vcpu import REQ_EVENT
from vnmi_lab.machine import Stimulus

show(lab.old_way(), title="One NMI with IRET interception")

# %% [markdown]
# Now the same guest, and the same NMI at the same moment, on a processor that has vNMI. KVM finds that out once, when
# it starts: CPUID Fn8000_000A, EDX bit 25. <!-- claim: 04-04 -->

# %%
lab.no_exit

# %% [markdown]
# Follow the two bits through the run.
#
# - **KVM writes V_NMI = 1** into the VMCB and enters the guest. VMRUN *loads* the bits into the processor.
#   <!-- claim: 04-05 -->
# - **The processor takes the NMI** when nothing is in its way. It clears V_NMI, and sets V_NMI_MASK.
#   <!-- claim: 04-06 -->
# - **`iretq` clears V_NMI_MASK**, when it has completed. No exit, no comparison, no borrowed flag.
#   <!-- claim: 04-07 -->
#
# It is the mask and the latch of Lab 01 again, `nmi_mask` and `nmi_latch`. Now the guest has a pair of its own.

# %% [markdown]
# The bits stand in one word, `int_ctl`, together with others. While the guest runs, the processor keeps copies of them;
# the VMCB shows the word as it was at VMRUN, until the guest exits. <!-- claim: 04-08 -->

# %%
lab.written_back

# %% [markdown]
# ## 2. The second one
#
# That was the easy case. What made Lab 03 hard was the second NMI, the one that has to wait for an IRET.
# Place your flag: click a step of the run, or go there with the arrow keys and press Enter.

# %%
lab.behind_the_iret

# %% [markdown]
# The guest did not execute one instruction of its program between the two handlers, and KVM slept all the while. The
# exit that was missing in Lab 03 is not there now either: *nothing* tells KVM that V_NMI_MASK has gone to 0. It does
# not need to know. <!-- claim: 04-09 -->

# %% [markdown]
# ## 3. The intercept that stays
#
# KVM has always had the processor intercept NMIs. A virtual NMI never exits to the host. So what is the NMI intercept
# good for, on a processor with vNMI? <!-- claim: 04-18 -->

# %%
lab.no_intercept

# %% [markdown]
# With V_NMI_ENABLE the NMI intercept is about *physical* NMIs, those that are meant for the host: they must make the
# guest exit, or the guest would take the host's NMI. The processor insists on it, and VMRUN checks.
# <!-- claim: 04-10 -->

# %% [markdown]
# ### Exercise 1: the three bits
#
# A guest is in its NMI handler, and one more NMI is waiting. Write the `int_ctl` of its VMCB, with these bits and no
# others. The machine will put it into the VMCB of a guest in this state, and run it.

# %%
int_ctl = ...
lab.int_ctl.check(int_ctl)

# %%
# lab.int_ctl.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 4. A mailbox, not a doorbell
#
# Look at the pictures again: the kick is still there. If the processor takes the NMI by itself, why must KVM make the
# guest exit first? Could it not write V_NMI into the VMCB while the guest runs?

# %%
lab.mailbox

# %% [markdown]
# V_NMI is a mailbox, and the processor looks into it at VMRUN only. While the guest runs, the processor works with
# its own copies, `live_v_nmi_pending` and `live_v_nmi_blocking` in the pictures. At #VMEXIT it writes them to the
# VMCB, over whatever stands there. Both sides write `int_ctl`, each in its own time. <!-- claim: 04-11 -->
#
# So vNMI saves the exits at the *end* of an NMI. The one at its beginning stays.

# %% [markdown]
# ## 5. Two doors
#
# The slot has room for one NMI. On bare metal two can come in one moment: one is taken at once, the other waits
# in the latch. A vCPU does not always run, so two may be waiting for it when it is entered next. <!-- claim: 04-12 -->

# %%
lab.two_doors

# %% [markdown]
# One VMRUN, two NMIs, through two doors: EVENTINJ for the one that is to be taken at once, V_NMI for the one that waits
# behind it. There is a detail that makes it work. In Lab 02 an injected NMI set no mask. With V_NMI_ENABLE it does:
# VMRUN sets V_NMI_MASK when EVENTINJ holds an NMI, and so the one in V_NMI has to wait for the IRET.
# <!-- claim: 04-13 -->
#
# (In KVM this pairing is from Linux 6.4, commit fa4c027a7956. The patches posted before it had V_NMI only, and the
# second NMI got stuck. A later lab looks for that bug.) <!-- claim: 04-14 -->

# %% [markdown]
# ## 6. Where is it now?
#
# Most mistakes with virtual NMIs are about *where* one is. Think of a token that moves: while an NMI waits it lies in
# one of four places, and there are three who can say that one is in service. <!-- claim: 04-40 -->
#
# ![Four places for a waiting NMI: nmi_queued, nmi_pending, EVENTINJ and V_NMI. Three masks: nmi_mask, nmi_masked and
# V_NMI_MASK](pictures/places.svg)
#
# Not every machine has all of them. The lowest line of each timeline, *each NMI*, says where it is.

# %% [markdown]
# ### Exercise 2: the way of one NMI
#
# Take the run of section 2: a second NMI arrives in the handler of the first. Write the places in which the *second*
# one waits, in their order. First with IRET interception, as in Lab 03, then with vNMI.

# %%
way = [
    ["nmi_queued", ...],  # with IRET interception
    ["nmi_queued", ...],  # with vNMI
]
lab.way.check(way)

# %%
# lab.way.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 7. Side by side
#
# Here is the whole difference in one table. Two NMIs, the second in the handler of the first; the machine counts.

# %%
lab.side_by_side([Stimulus(at="work"), Stimulus(at="handler")])

# %% [markdown]
# The guest saw the same two NMIs each time. What differs is what was spent: the kicks stay, and the other exits are
# gone.
#
# And in one picture, with another small guest: bare metal on top, then IRET interception, then vNMI, with the same
# moments below each other. Go from difference to difference with the full stop key. Compare bare metal's latch and
# mask with V_NMI and V_NMI_MASK at the bottom: this is what vNMI gives back.

# %%
from vnmi_lab import side_by_side

side_by_side("in-handler")

# %% [markdown]
# ### Exercise 3: four exits
#
# Place NMIs so that *three* are delivered under both, and IRET interception spends exactly *four* exits that vNMI
# does not. The labels are `"start"`, `"work"`, `"more"` and `"done"` in the program, `"handler"` and `"leave"` in the
# handler.

# %%
stimuli = [Stimulus(at="work"), ...]
lab.four_more.check(stimuli)

# %%
# lab.four_more.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 8. What is left for KVM
#
# Somebody must decide *how many* NMIs may wait, and where. In KVM that is `process_nmi`, in `arch/x86/kvm/x86.c`. It
# runs on the way into the guest, when NMIs have been queued. <!-- claim: 04-15 -->
#
# | in Python | what it is |
# |---|---|
# | `vcpu.nmi_queued` | NMIs that have arrived and that nobody has looked at |
# | `vcpu.nmi_pending` | NMIs that KVM has accepted and holds. They go by EVENTINJ |
# | `vcpu.ops.get_nmi_mask(vcpu)` | True: one is in service, V_NMI_MASK is 1 |
# | `vcpu.nmi_injected` | True: one is on its way by EVENTINJ |
# | `vcpu.ops.is_vnmi_pending(vcpu)` | True: the slot is taken |
# | `vcpu.ops.set_vnmi_pending(vcpu)` | puts one into the slot, True; False when the slot is taken |
# | `vcpu.make_request(REQ_EVENT)` | on the way in, look at `nmi_pending`, and inject if that may be |
#
# <!-- claim: 04-16 -->
#
# The rule comes from bare metal. While one NMI is in service, or on its way, *one* more may wait. If there is none,
# *two* may: the first will be taken at once. What sits in the slot counts too. Any others merge into these.
# <!-- claim: 04-17 -->

# %% [markdown]
# ### Exercise 4: `process_nmi`
#
# Write it. Three NMIs before an entry must give two, ten in a handler must give one more, and no IRET exit and no #DB
# exit may be spent. The judge also saves the vCPU and restores it into a new one, at every stop.


# %%
def process_nmi(vcpu):
    limit = ...  # how many may wait
    vcpu.nmi_pending = min(vcpu.nmi_pending + vcpu.nmi_queued, limit)
    vcpu.nmi_queued = 0
    ...  # hand one over; ask for a look if one is left


lab.process_nmi.check(process_nmi)

# %%
# lab.process_nmi.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## What you know now
#
# - Three bits of `int_ctl`: V_NMI (11) is the slot, V_NMI_MASK (12) says "in service", V_NMI_ENABLE (26) switches both
#   on.
# - The processor takes V_NMI, sets V_NMI_MASK, clears it when an IRET completes, and takes the next. Nothing exits.
# - VMRUN reads the bits and #VMEXIT writes them. A guest that runs does not see a change, so the kick stays.
# - Two NMIs before an entry go through two doors, EVENTINJ and V_NMI.
# - V_NMI_ENABLE needs the NMI intercept, which is about physical NMIs only. Without it VMRUN answers INVALID.
#
# In Lab 01 two bits kept NMIs in order. In Lab 02 they were gone, in Lab 03 software stood in for them, and here they
# are back, for the guest alone.
#
# **More of this:** `vnmi_lab.practice(1, 3)` makes and answers problems without end; the first number says which.
#
# **Next:** [Lab 05: blocking rules](05_blocking_rules.ipynb). What else can say "not now" to an NMI: the shadow, GIF
# and virtual GIF.

# %%
lab.left()
