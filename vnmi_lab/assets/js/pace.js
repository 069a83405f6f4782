// What every view that plays shares: the beat of play, and telling the kernel where one rests.

const REST = 200; // ms without a move before the kernel is told

/** Call `act(count)` whenever, at `speed()` a second, so many are due, as long as it gives true; returns what ends it. */
export function beat(speed, act) {
  let before = null,
    owed = 0,
    frame = 0;
  const tick = (time) => {
    owed += before === null ? 0 : (Math.min(time - before, 1000) / 1000) * speed();
    before = time;
    const whole = Math.floor(owed);
    owed -= whole;
    if (!whole || act(whole)) frame = requestAnimationFrame(tick);
  };
  frame = requestAnimationFrame(tick);
  return () => cancelAnimationFrame(frame);
}

/** Tells the kernel where a view is, once it has rested there. A dead kernel does not matter. */
export class Teller {
  constructor(model, where) {
    Object.assign(this, { model, where });
  }
  tell() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      if (this.model.get("cursor") === this.where()) return;
      try {
        this.model.set("cursor", this.where());
        this.model.save_changes();
      } catch (error) {
        console.warn("cursor not saved", error);
      }
    }, REST);
  }
  stop() {
    clearTimeout(this.later);
  }
}
