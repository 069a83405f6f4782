# %% [markdown]
# # Lab 00: start here
#
# **Goal.** In the next minutes you see a processor take an NMI, and you learn to use what all labs use: the bench,
# predictions, and exercises that check themselves.
#
# **Time:** about 15 minutes. **You need:** nothing. To run a cell, click into it and press Shift + Enter.
#
# | word | what it means here |
# |---|---|
# | *interrupt* | a signal from outside that makes the processor leave its program and run a *handler* |
# | *NMI* | non-maskable interrupt: the urgent kind |
# | *guest* | the program, with its handlers, that the processor runs |
# | *bench* | the panel that runs a guest and shows every step |
# | *scenario* | one run in a line of text: which guest, on what machine, and what arrives when |
#
# ![One NMI on the timeline: it arrives before the instruction at work, the handler runs, the program goes
# on](pictures/start.svg)
#
# *What you are about to run. The program is in the line `main`, the NMI's handler in the line `handler`.*

# %% [markdown]
# ## 1. Is everything here?

# %%
from vnmi_lab import doctor, progress, show
from vnmi_lab.checks import lab00 as lab

print(doctor().verdict)

# %% [markdown]
# If it names problems, `doctor()` alone says what mends them.
#
# ## 2. An NMI is delivered
#
# Run this cell, and press the round **play** button in the middle of the panel.

# %%
show("v1~plain~bare~nmi@work")

# %% [markdown]
# That was an NMI. The program ran; the NMI arrived; the processor left the program, ran the handler and came back. You
# have just watched an emulated processor execute real machine code, with every bit that changed. <!-- claim: 00-02 -->
#
# There are four knobs on top. **Policy** is what the guest runs on: *bare* is a processor with no hypervisor. **Guest**
# is the program, **Place an NMI** lets one more arrive, and **Run** runs what is in the editor. All others are folded
# away behind *More*. Nothing that you do here can break anything.

# %% [markdown]
# ## 3. Once around the bench
#
# Try each of these in the panel above. It takes three minutes.
#
# 1. **Step.** Click into the picture, and go on and back with the arrow keys. On the right the panel says what each
#    step did, and by which rule.
# 2. **Run until.** Press *Run until*, and in the row *a delivery* the arrow to the right: the run goes to the next step
#    at which a handler is entered. The arrow to the left goes back.
# 3. **Why is it blocked?** Go to step 4, in the handler. Below the picture stands that a further NMI would have to
#    wait, which bit says so, and a button that goes to the step where that ends.
# 4. **Markers.** Go to one step and press A, to another and press B. Beside them stands how far they are apart.
#
# `?` lists all keys. The panel needs no server for any of this: it plays on even when the connection is gone.

# %% [markdown]
# ## 4. Exercises check themselves
#
# Look at the run above once more. Write a number in the place of the `...`, and run the cell.

# %% [markdown]
# ### Exercise 1: taken
#
# At which step is the NMI *taken*, that is, when does the processor really go to the handler?

# %%
step = ...
lab.taken.check(step)

# %%
# lab.taken.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# Each exercise has three hints, and `lab.taken.solution()` when you want to see one. `lab.taken.reset()` gives the cell
# back as it was. An answer is judged by running it, never by comparing it with a text; a wrong one shows at which
# step it goes wrong. Try a wrong one: nobody counts them but you.

# %% [markdown]
# ### Exercise 2: markers
#
# How many steps are there from the NMI's arrival to the handler's `iretq`? Let the markers count.

# %%
steps = ...
lab.between.check(steps)

# %%
# lab.between.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 5. Predictions come first
#
# Most runs are shown only after you have said what you expect. A wrong guess is worth more here than none: you will
# remember it. *Skip, show me* is always there.

# %%
lab.asleep

# %% [markdown]
# ## 6. A scenario is a line of text
#
# The line *Scenario* on the bench says all about a run: `v1~plain~bare~nmi@work` is the guest `plain`, on bare metal,
# with an NMI that arrives at `work`. You can copy it, send it to somebody, or paste it under *More*.

# %% [markdown]
# ### Exercise 3: two places
#
# Go up to the bench in section 2 and let a second NMI arrive at `later`: press *Place an NMI*, and click into the
# picture where the program stands at `later`. Then copy the scenario and paste it here, in the place of `____`.

# %%
scenario = "____"
lab.two_places.check(scenario)

# %%
# lab.two_places.hint()  # stuck? remove the first "#" and run this cell

# %% [markdown]
# ## 7. The course
#
# The labs build on each other, and each is made for one sitting.
#
# | lab | minutes | what it is about |
# |---|---|---|
# | 00 Start here | 15 | this one |
# | [01 An NMI on bare metal](01_nmi_on_bare_metal.ipynb) | 40 | the mask, the latch, and IRET |
# | [02 Event injection](02_event_injection.ipynb) | 45 | how a hypervisor gives an event to a guest |
# | [03 IRET interception](03_iret_interception.ipynb) | 45 | how KVM finds the moment for the next NMI |
# | [04 vNMI](04_vnmi.ipynb) | 45 | the processor keeps the mask and the latch of a guest |
# | [05 Blocking rules](05_blocking_rules.ipynb) | 45 | what else can say "not now" |
# | [06 When delivery fails](06_when_delivery_fails.ipynb) | 45 | page faults on the way, and migration |
# | [07 Write it yourself](07_write_it_yourself.ipynb) | 45 | a hypervisor, function by function |
# | [08 Bug hunt](08_bug_hunt.ipynb) | 45 | the real ones, symptom first |
# | [09 What it costs](09_what_it_costs.ipynb) | 45 | exits, sweeps, and how to measure on a real machine |
#
# The subject is vNMI, a feature of AMD's processors. It comes in Lab 04, and the labs before it show what it is for. On
# the bench it is the policy `vnmi`, with which `show()` begins unless you name another. Here you began with `bare`.

# %% [markdown]
# ## 8. Keep what you did

# %%
progress()

# %% [markdown]
# The map says what you did and what is next. It is kept in a file beside the notebooks, `vnmi-progress.json`, and
# nothing is sent anywhere.
#
# **On Binder** a session ends when nobody has used it for about ten minutes, and its files are gone. Before a break
# press *Download my progress*. It works even after the session has ended, while this page is open. In a new
# session run the cell above and upload the file.
#
# **If Binder does not start,** there are two other ways, and the project's README describes both. The labs run in a
# browser alone, from any web page that has them (JupyterLite). Or on your own machine: `pip install` the wheel, then
# `vnmi-lab open`.

# %% [markdown]
# ## 9. How sure is all this?
#
# The emulated processor is compared with recordings of QEMU, Bochs and Linux. For vNMI there is nothing to compare
# with: what the labs say about it is from the specification, AMD's manual, and from the code of Linux, and it is not
# verified on hardware. <!-- claim: 00-01 -->
#
# Whatever the panel says has a rule, with its source and a word for how well it is known.

# %% [markdown]
# ## What you know now
#
# - `show("...")` opens the bench; play, step, *Run until*, *Why is it blocked?* and markers need no server.
# - `check`, `hint`, `solution` and `reset` belong to every exercise; a prediction can be skipped.
# - A scenario is a line of text.
# - `progress()` is the map, and the file below it is what you take along.
#
# **Next:** [Lab 01: an NMI on bare metal](01_nmi_on_bare_metal.ipynb). What happens when a second one comes?

# %%
lab.left()
