# %% [markdown]
# # Lab 02: event injection
#
# **Goal.** You will drive a virtual machine by hand: enter it, leave it, and place an NMI in it. And you will see why
# that alone is not enough.
#
# **Time:** about 45 minutes. **You need:** [Lab 01](01_nmi_on_bare_metal.ipynb): the mask, the latch, what IRET does.
#
# | word | what it means here |
# |---|---|
# | *guest* | the program in the virtual machine. It runs on the real processor, most of the time undisturbed |
# | *host* | the program that runs the guest: the hypervisor, in Linux KVM. Here you are the host |
# | *SVM* | AMD's virtualization, the part of the processor that this lab is about |
# | *VMRUN* | the host's instruction that enters the guest |
# | *#VMEXIT* | the way out: the processor stops the guest and goes on with the host |
# | *VMCB* | the virtual machine control block: 4096 bytes in which host and processor leave word for each other |
# | *intercept* | a bit in the VMCB: "if the guest does this, leave it" |
# | *EVENTINJ* | a field of the VMCB: "deliver this event to the guest" |
# | *GIF* | the global interrupt flag, `gif` in the pictures. #VMEXIT clears it, so that the host is left in peace |
#
# <!-- claim: 02-01 -->

# %% [markdown]
# ## 1. In and out
#
# A host does one thing over and over: it enters the guest with VMRUN, and some time later the processor brings it back
# with a #VMEXIT. Here is one such round.

# %%
from vnmi_lab import show
from vnmi_lab.checks import lab02 as lab

show(lab.one_round(), title="Into the guest and out again")

# %% [markdown]
# The band at the top says whose code runs. The arrow down is VMRUN, the arrow up is #VMEXIT, and its label says why:
# the guest executed `vmmcall`, which is how a guest calls its host. This is the guest:

# %%
print(lab.PROGRAM, lab.HANDLER)

# %% [markdown]
# ## 2. The VMCB is a page of bytes
#
# How do the two talk? The host writes into the VMCB before VMRUN: where the guest is to go on, what is intercepted.
# The processor writes into it at #VMEXIT: where the guest stood, and why it left. Both write the same page of memory.
# <!-- claim: 02-02 -->
#
# `do("run")` is one VMRUN and all that follows, up to the next #VMEXIT. `dump()` shows every field of the VMCB that is
# not zero, with its offset in the page (AMD manual, volume 2, appendix B). <!-- claim: 02-03 -->

# %%
host = lab.visitor()
host.do("run")
print(host.vmcb.dump())

# %% [markdown]
# Two lines are enough for now. `exit_code` is 81h, the guest's `vmmcall`. `rip` is where the guest will go on. The
# *intercepts* are the bits at the very top; they are how the guest was made to leave. <!-- claim: 02-04 -->

# %% [markdown]
# ## 3. An intercept comes first
#
# A guest that asks for the processor's name, with `cpuid`, is to hear what the host wants it to hear. So the host
# intercepts CPUID. The whole craft of a hypervisor hangs on one detail here: does the exit come before the instruction,
# or after it?

# %%
lab.before_or_after

# %% [markdown]
# Before. Nothing of the instruction has happened, and RIP points *at* it (AMD manual, volume 2, 15.7). A host that
# acts in the instruction's place must then move RIP over it by itself; ours does so after each `vmmcall`, as the last
# step of section 1 says. Do not forget this one; it comes back at the end of the lab and decides everything.
# <!-- claim: 02-05 -->

# %% [markdown]
# ## 4. EVENTINJ
#
# Now the host wants to give the guest an NMI. It cannot send one: a real NMI would go to the real processor, and
# that means to the host. It *injects* one. The host writes a word into EVENTINJ, and the next VMRUN delivers that event
# before the guest's first instruction. <!-- claim: 02-06 -->
#
# | bits | field | meaning |
# |---|---|---|
# | 7:0 | VECTOR | the number of the handler; ignored for an NMI |
# | 10:8 | TYPE | 0 interrupt, **2 NMI**, 3 exception, 4 software interrupt |
# | 11 | EV | there is an error code as well |
# | 31 | V | valid: there is an event |
# | 63:32 | ERRORCODE | the error code |
#
# (AMD manual, volume 2, 15.20) <!-- claim: 02-07 -->

# %% [markdown]
# ### Exercise 1: the word
#
# Write the number that injects an NMI. Python has `1 << 31` for "bit 31 set", and `|` to join bits.

# %%
nmi_word = ...
lab.nmi_word.check(nmi_word)

# %%
# lab.nmi_word.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# There is a trap for the quick. NMI is number 2, and exceptions have numbers too.

# %%
lab.type_three

# %% [markdown]
# VMRUN checks the VMCB before it enters the guest, and answers nonsense with an exit of its own, INVALID: exit code -1.
# <!-- claim: 02-08 -->

# %% [markdown]
# ## 5. Whether the guest likes it or not
#
# On bare metal an event that arrives may have to wait. In Lab 01 IF held the ordinary interrupt back, and the mask held
# the NMI. What holds an injected event?

# %%
lab.closed_ears

# %% [markdown]
# Nothing does. An injected event does not arrive; it is placed. The processor looks at no flag and at no mask (AMD
# manual, volume 2, 15.20). If now is not a good moment for the guest, then it is the *host* that must know, and must
# not inject. The processor trusts it. <!-- claim: 02-09 -->
#
# ![An interrupt is injected while IF is 0, and its handler runs before the guest's first
# instruction](pictures/injected.svg)
#
# *EVENTINJ is unconditional: IF is 0, and the handler runs.* So "allowed" is not something that the processor
# enforces. It is a promise that software makes to the guest, and keeps by asking itself first. In KVM the question has
# a function of its own, `svm_nmi_allowed`. <!-- claim: 02-40 -->

# %% [markdown]
# ## 6. Two NMIs
#
# Let us see what that trust means for NMIs. This guest is helpful: it calls its host from inside its NMI handler.

# %%
print(lab.TALKS)

# %% [markdown]
# You write the word into the VMCB, and run.

# %%
host = lab.talker()
host.vmcb.event_inj = 0x80000200
host.do("run")
show(host, title="The guest calls from its NMI handler")

# %% [markdown]
# Go to the last step. The guest is in its NMI handler, and calls. Look at `nmi_mask`: on bare metal it would be 1 now.

# %%
lab.nested_injection

# %% [markdown]
# There it is, the accident of Lab 01, section 6, and this time no careless breakpoint was needed. The manual says it
# in one sentence: *"An injected NMI does not block delivery of further NMIs"* (volume 2, 15.20). Injection delivers the
# event, and nothing else. No mask is looked at, and none is set. (With vNMI one is set. That is Lab 04.)
# <!-- claim: 02-10 -->
#
# A guest that was written for bare metal relies on the mask. Take it away and you can hang the guest, without a single
# wrong instruction in it.

# %% [markdown]
# ### Exercise 2: do it
#
# Write the host's script that nests two NMIs in this guest, and then lets it return from both and finish its work.
# A script is a list of lines. You need two: `"inj"`, which writes the word of an NMI into EVENTINJ, and `"run"`.
# Replace the `...`.

# %%
script = ["inj", "run", ...]
lab.nest.check(script)

# %%
# lab.nest.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ### Exercise 3: and now as it should be
#
# The same guest, two NMIs, but one after the other, as bare metal would do it. When is it safe?

# %%
script = ["inj", "run", ...]
lab.one_at_a_time.check(script)

# %%
# lab.one_at_a_time.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 7. What the host has to remember
#
# You could do it because this guest called you. A real guest tells its host nothing. Its handler begins and ends
# somewhere in its own code, and the host must find out when the mask *would have been* lifted, by itself:
#
# | the processor had | so the host must keep | in KVM |
# |---|---|---|
# | `nmi_mask` | "the guest is in its NMI handler" | `nmi_masked` |
# | `nmi_latch` | "one more is waiting" | `nmi_pending` |
# | IRET clears the mask | a way to notice the guest's IRET | the IRET intercept |
#
# (Linux 6.12, `arch/x86/kvm/svm/svm.c`. The middle one, in `arch/x86/kvm/x86.c`, can count to two.)
# <!-- claim: 02-11 -->
#
# The last line looks easy. IRET can be intercepted like `cpuid`. So: inject, wait for the IRET's exit, inject the next.

# %%
lab.too_early

# %% [markdown]
# One instruction too early. The exit comes *before* the IRET, as in section 3: the first handler is still entered, and
# the injected NMI nests in it. The host needs to know when the IRET *is done*, and there is no exit for that.
# <!-- claim: 02-12 -->

# %% [markdown]
# ## What you know now
#
# - VMRUN enters the guest, #VMEXIT leaves it, and the VMCB is a page of bytes that both sides read and write.
# - An intercept exits before the instruction; RIP points at it.
# - EVENTINJ = 80000200h injects an NMI. A type 3 event with vector 2 is refused. <!-- claim: 02-13 -->
# - Injection asks neither IF nor any mask, and without vNMI it sets none. Two injected NMIs nest.
# - So the host keeps the mask and the latch in software, and it has to find the moment at which an IRET is done.
#
# **Next:** [Lab 03: IRET interception](03_iret_interception.ipynb): how KVM finds that moment, with one intercept,
# one comparison and the processor's single-step flag. Then Lab 04: vNMI, in which the processor, from the
# specification, takes the two bits back.

# %%
lab.left()
