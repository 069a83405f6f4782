# %% [markdown]
# # Lab 01: an NMI on bare metal
#
# **Goal.** You will be able to say, for any moment, what happens to an NMI that arrives: taken, held back, or merged
# with another. Everything that virtualization does to NMIs, in the labs after this one, is an attempt to keep the
# promises that you meet here.
#
# **Time:** about 40 minutes. **You need:** a little Python. No assembly; each program is given and explained.
#
# | word | what it means here |
# |---|---|
# | *interrupt* | a signal from outside that makes the processor leave its program and run a *handler* |
# | *handler* | the piece of code that deals with an interrupt |
# | *NMI* | non-maskable interrupt: the urgent kind, for broken hardware, watchdogs and profilers. Its number is 2 |
# | *IRET* | the instruction at a handler's end: it returns to what was interrupted. In 64-bit code: `iretq` |
# | *IF* | the interrupt flag, a bit in the processor. While it is 0, ordinary interrupts wait |
# | *mask* | while NMIs are *masked*, the next NMI waits. In the pictures: `nmi_mask` |
# | *latch* | one bit that remembers that an NMI waits. In the pictures: `nmi_latch` |
# | *taken* | the moment when the processor really goes to the handler |
#
# <!-- claim: 01-01 -->
#
# ![One NMI: it arrives in step 1, is taken in step 2, and its handler ends in step 5](pictures/one_nmi.svg)
#
# *The first run of this lab. In JupyterLab you play it below.*

# %% [markdown]
# ## 1. One NMI
#
# Here is a whole run: a small program, and one NMI that arrives while the program is at work. Press **play**, or use
# the arrow keys to go step by step, forward and back.

# %%
from vnmi_lab import show
from vnmi_lab.checks import lab01 as lab

show(lab.one_nmi(), title="One NMI")

# %% [markdown]
# Read it from left to right. Each column is a *step*: one instruction, or one thing that happens to the processor.
#
# - **Step 0.** The program runs its first instruction.
# - **Step 1, the NMI arrives.** Nobody asked for it. The latch goes to 1: an NMI is waiting.
# - **Step 2, the NMI is taken.** That is always between two instructions, never in the middle of one. The processor
#   writes down on the stack where it was; it empties the latch; it sets the mask; and it goes on at the handler.
#   <!-- claim: 01-02 -->
# - **Steps 3 to 5.** The handler runs. Its last instruction, `iretq`, reads back what was written down and clears the
#   mask. <!-- claim: 01-03 -->
# - **From step 6** the program goes on as if nothing had happened.
#
# That is the whole life of an NMI. This lab asks what happens when two of them meet.

# %% [markdown]
# ## 2. What the processor executes
#
# The program and the handler are real x86-64 machine code, assembled from this text. What stands behind `;` is for you.
# The words before a colon are *labels*: names for places.

# %%
print(lab.PROGRAM, lab.HANDLER)

# %% [markdown]
# Now put the two together yourself. A *guest* is the code; `{2: ...}` says that this handler belongs to number 2, the
# NMI's; `tail="hlt"` lets the processor halt at the end. A *stimulus* is something from outside. Change the place where
# the NMI arrives to `"start"` or `"work"`, and run the cell again. The handler always runs *before* the instruction
# at that place.

# %%
from vnmi_lab.guest import Guest
from vnmi_lab.machine import BareMetal, Stimulus

guest = Guest.of(lab.PROGRAM, {2: lab.HANDLER}, tail="hlt")
show(BareMetal(guest, [Stimulus(at="done")]), title="Your NMI")

# %% [markdown]
# ## 3. Non-maskable?
#
# A program can ask not to be disturbed. The instruction `cli` sets IF to 0, and from then on ordinary interrupts (INTR
# in the pictures) wait; `sti` sets it to 1 again. Operating systems do this all the time, around code that must not be
# torn apart. <!-- claim: 01-04 -->

# %%
lab.interrupts_off

# %% [markdown]
# An NMI does not look at IF. This is what makes it useful, since a profiler or a watchdog can look even into code that
# has switched interrupts off. It is also what makes it dangerous: there is no place in a program that is safe from it.
# <!-- claim: 01-05 -->
#
# The ordinary interrupt in this run has the number 40h. The `h` marks a hexadecimal number: 40h is 0x40.
#
# (The line `shadow` is about something else. After an `sti` that turns IF on, the processor gives the program one more
# instruction before it listens; a later lab comes back to this.) <!-- claim: 01-06 -->

# %% [markdown]
# ## 4. The mask
#
# Almost no place. Suppose that NMIs could interrupt their own handler: a burst of them would pile up handler on
# handler until the stack is full. So there is something after all that holds an NMI back, and the processor does it
# by itself.

# %%
lab.second_nmi

# %% [markdown]
# Taking an NMI sets the *mask*. From then on further NMIs wait, until an IRET clears it. So the name has it wrong:
# the non-maskable interrupt can be masked, by another NMI. An ordinary program has no instruction for it.
# <!-- claim: 01-07 -->
#
# Look at the end of the run once more. The second NMI is taken directly behind the `iretq`: the program does not get
# to execute a single instruction between the two. <!-- claim: 01-08 -->

# %% [markdown]
# ## 5. The latch is one deep
#
# The second NMI was remembered. What about a third, and a tenth?

# %%
lab.ten_more

# %% [markdown]
# Twice, however many there are. The latch is a bit and no counter. An NMI says "look!", and not "look once more":
# whoever writes an NMI handler must look for *everything* that may have happened since the last time. The processor
# tests of the KVM project demand exactly this number: ten NMIs sent from inside a handler, two runs in all
# (kvm-unit-tests, `x86/apic.c`, "pending nmi"). <!-- claim: 01-09 -->

# %% [markdown]
# ### Exercise 1: five NMIs, two runs
#
# Five NMIs arrive, and the handler is to run exactly twice. Say where they arrive: `at` is a label (`"start"`,
# `"work"`, `"done"`, `"handler"`, `"leave"`), and `times=3` makes three of one. Replace the `...`.

# %%
stimuli = [
    Stimulus(at="work"),
    ...,
]
lab.two_runs.check(stimuli)

# %%
# lab.two_runs.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 6. Any IRET
#
# The mask falls with the IRET. Which IRET? You may have read that an NMI is masked "until its handler is done". Let us
# look whether the processor knows what a handler is.
#
# This handler does something careless: it runs into a breakpoint, `int3`. That is an *exception*, and it has a handler
# of its own, number 3.

# %%
print(lab.BREAKS, lab.TRAP)

# %%
lab.breakpoint_inside

# %% [markdown]
# The processor keeps no list of who is whose handler. It has one bit, and *every* IRET that completes clears it. The
# breakpoint's handler did not know that it was called from inside an NMI handler. Its IRET opened the door all the
# same, and the waiting NMI walked in. <!-- claim: 01-10 -->
#
# The same is true of a page fault in an NMI handler, or of any other exception that returns. QEMU and Bochs, two
# emulators written independently, agree on it in the recordings that this project is tested against.
# <!-- claim: 01-11 -->
#
# ![The breakpoint's IRET clears nmi_mask in the middle of the NMI handler, and the second NMI is taken there: two
# handlers are entered and not left](pictures/any_iret.svg)
#
# *IRET unmasks, and not the handler's end: the mask falls at the inner `iretq`, with the handler half done.*

# %% [markdown]
# ### Exercise 2: open the door
#
# Write a handler in which the second NMI, which arrives when the handler begins, is taken *before* the handler is done.
# One line is missing, and it is one that you have read above. After that the program must still finish its work.

# %%
my_handler = """
handler: inc qword [rbx+16]
         ____
         nop
         iretq
"""
lab.open_the_door.check(my_handler)

# %%
# lab.open_the_door.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 7. Why nesting hurts
#
# So NMIs can nest. Is that bad? So far it was not: each handler found its own notes on the stack, and both returned.
#
# But an NMI may come when the stack itself is broken. Operating systems therefore give it a stack of its own. An entry
# of the *interrupt stack table* (IST) says where that stack begins, and the processor starts there, at the same
# address, each time it takes an NMI. It does not look whether the stack is in use (AMD manual, volume 2, 8.9.4).
# <!-- claim: 01-12 -->

# %%
lab.one_stack

# %% [markdown]
# Look at the stack in the panel, at step 2 and at step 8. When the second NMI is taken, its five words fall exactly on
# the five words of the first. What was written there, the way back to the program, is gone. The outer handler's IRET
# now reads the inner one's notes, which say: return into the middle of the handler. So it does, again and again.
# <!-- claim: 01-13 -->
#
# No rule was broken, nothing faulted, and the machine hangs. One IRET too early is enough. Linux is prepared for it:
# its NMI entry looks whether it interrupted itself, and if so has the first handler run once more instead of nesting
# (Linux 6.12, `arch/x86/entry/entry_64.S`, `asm_exc_nmi`). <!-- claim: 01-40 -->
#
# Keep this in mind for the next lab: a hypervisor that lets two NMIs nest in its guest can hang a guest that is
# without a fault.

# %% [markdown]
# ### Exercise 3: no way back
#
# Now be the attacker. The handler with the breakpoint has the stack of its own. Place NMIs so that the program never
# finishes. Use as few as you can.

# %%
attack = [
    ...,
]
lab.no_way_back.check(attack)

# %%
# lab.no_way_back.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## What you know now
#
# - An NMI is taken between two instructions. IF has no say.
# - Taking it sets the mask; while the mask is set, further NMIs wait.
# - One waiting NMI is remembered. More merge into it, so ten in a handler give one more run.
# - The next IRET that completes clears the mask: any IRET, not only the handler's.
# - If that comes too early NMIs nest, and on an interrupt stack the second destroys the first one's way back.
#
# Two bits, `nmi_mask` and `nmi_latch`, and four ways to change them. On bare metal the processor keeps them for you.
#
# **More of this:** `vnmi_lab.practice(1, 1)` makes and answers problems without end; the first number says which.
#
# **Next:** [Lab 02: event injection](02_event_injection.ipynb). There the program runs in a virtual machine. Its NMIs
# come from a hypervisor, and nobody keeps the two bits any more.

# %%
lab.left()
