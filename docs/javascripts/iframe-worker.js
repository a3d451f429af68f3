// The search of the site runs in a web worker. Browsers give no workers to pages that are opened from a disk (file:), so there
// a hidden frame does the same work. The name holds "iframe-worker", by which the theme's plugin knows that it need not load one.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.inner = new Promise((ready) => {
        frame.onload = () => {
          frame.onload = null;
          const inner = frame.contentWindow;
          inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          const script = inner.document.createElement("script");
          script.onload = () => ready(inner);
          script.src = new URL(url, document.baseURI).href;
          inner.document.body.append(script);
        };
      });
      const begin = () => document.body.append(frame);
      if (document.body) begin();
      else addEventListener("DOMContentLoaded", begin);
    }

    postMessage(data) {
      this.inner.then((inner) => inner.dispatchEvent(new inner.MessageEvent("message", { data })));
    }
  };
}
