// What measures in the page. Times are those of the page's own clock.

() => {
  const book = jupyterapp.shell.currentWidget.content;
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const cellNode = (index) => book.widgets[index].node;
  const ours = () => [...document.querySelectorAll(".vnmi-player")].at(-1);
  const middle = (times) => times.sort((a, b) => a - b)[times.length >> 1];
  const later = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  // Frames that matplotlib's views show: each new picture, and each drawing on a canvas that is on the page.
  let shown = 0;
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  CanvasRenderingContext2D.prototype.drawImage = function (...given) {
    if (this.canvas.isConnected) shown++;
    return draw.apply(this, given);
  };
  new MutationObserver((changes) => {
    if (changes.some(({ target }) => target.tagName === "IMG")) shown++;
  }).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["src"] });

  /** Whether a cell's output is there to be seen: our lanes, a picture, or a canvas that has been drawn on. */
  function visible(cell) {
    const lanes = cell.querySelector('.vnmi-player[data-ready="true"] .vl-svg');
    if (lanes) return lanes.childElementCount > 0;
    if (cell.querySelector(".bench-word")) return true;
    const picture = cell.querySelector(".jp-OutputArea img");
    if (picture) return picture.complete && picture.naturalWidth > 0;
    return Boolean(cell.querySelector(".jp-OutputArea canvas")) && shown > 0;
  }

  window.bench = {
    async tell(code, wait) {
      const future = jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
      if (!wait) return "";
      const reply = await future.done;
      return reply.content.status === "ok" ? "" : `${reply.content.ename}: ${reply.content.evalue}`;
    },

    async paint(index) {
      for (const cell of book.model.cells) if (cell.type === "code") cell.clearExecution();
      await later(300);
      book.activeCellIndex = index;
      book.deselectAll();
      cellNode(index).scrollIntoView();
      shown = 0;
      const began = performance.now();
      jupyterapp.commands.execute("notebook:run-cell");
      while (!visible(cellNode(index))) {
        await frame();
        if (performance.now() - began > 60_000) throw new Error(`cell ${index} shows nothing`);
      }
      await frame(); // what is in the page now is painted before the next frame begins
      const taken = performance.now() - began;
      const coming = () => cellNode(index).querySelector('.vnmi-player:not([data-coming="0"])');
      while (coming()) await frame();
      this.whole = performance.now() - began;
      await later(500);
      return taken;
    },

    async idle(seconds) {
      let frames = 0;
      const began = performance.now();
      for (; performance.now() - began < seconds * 1000; frames++) await frame();
      return (frames * 1000) / (performance.now() - began);
    },

    async play(seconds) {
      const player = ours();
      const pace = player.querySelector('select[aria-label^="Speed"]');
      pace.value = "60";
      pace.dispatchEvent(new Event("change", { bubbles: true }));
      player.querySelector(".vl-play").click();
      await later(200);
      let [frames, steps] = [0, +player.dataset.cursor];
      const began = performance.now();
      while (performance.now() - began < seconds * 1000) {
        await frame();
        frames++;
      }
      const taken = (performance.now() - began) / 1000;
      steps = +player.dataset.cursor - steps;
      player.querySelector(".vl-play").click();
      await later(600);
      return { frames: frames / taken, steps: steps / taken };
    },

    async scrub(count) {
      const slider = ours().querySelector(".vl-scrub");
      for (let step = 1; step <= count; step++) {
        slider.value = step;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        await frame();
      }
    },

    /** The median time of some acts, each with the layout it asks for. */
    async acts(count, act) {
      const player = ours();
      const times = [];
      for (let n = 0; n < count; n++) {
        await frame();
        const before = player.dataset.cursor;
        const began = performance.now();
        act(player);
        player.getBoundingClientRect();
        times.push(performance.now() - began);
        if (player.dataset.cursor === before) throw new Error("nothing moved");
      }
      return middle(times);
    },
    clicks(count) {
      return this.acts(count, (player) => player.querySelector('[aria-label^="Step back"]').click());
    },
    keys(count) {
      const press = () => new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, cancelable: true });
      return this.acts(count, (player) => player.querySelector(".vl-scroll").dispatchEvent(press()));
    },

    /** Frames a second in which a view that the kernel draws shows something new. */
    async watch(seconds) {
      await later(500);
      let frames = 0;
      const began = performance.now();
      while (performance.now() - began < seconds * 1000) {
        const before = shown;
        await frame();
        if (shown > before) frames++;
      }
      return (frames * 1000) / (performance.now() - began);
    },

    async far(count) {
      const step = [...document.querySelectorAll(".jupyter-button")].findLast((button) => button.textContent === "Step");
      const times = [];
      for (let n = 0; n < count; n++) {
        await later(100);
        const [before, began] = [shown, performance.now()];
        step.click();
        while (shown === before) {
          await frame();
          if (performance.now() - began > 20_000) throw new Error("nothing was drawn");
        }
        times.push(performance.now() - began);
      }
      return middle(times);
    },
  };
};
