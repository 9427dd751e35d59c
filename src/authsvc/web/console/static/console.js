// The page of a new key: a button that copies the key and says so, and a warning before the page is left.
"use strict";
(() => {
  const secret = document.querySelector("[data-secret]");
  const copy = document.getElementById("copy");
  const status = document.getElementById("copy-status");
  const leave = document.getElementById("leave");
  let confirmed = false;

  function select() {
    const range = document.createRange();
    range.selectNodeContents(secret);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  async function copied() {
    try {
      await navigator.clipboard.writeText(secret.textContent);
      return true;
    } catch {
      select();
      return document.execCommand("copy");
    }
  }

  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const succeeded = await copied();
    if (succeeded) copy.firstElementChild.textContent = copy.dataset.copied;
    else select();
    status.textContent = succeeded ? copy.dataset.copied : copy.dataset.failed;
  });
  leave.addEventListener("click", () => { confirmed = true; });
  addEventListener("beforeunload", (event) => { if (!confirmed) event.preventDefault(); });
  // A browser may keep the page for its back button. The key is not kept.
  addEventListener("pagehide", () => {
    confirmed = true;
    secret.textContent = "";
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.replace(leave.href); });
})();
