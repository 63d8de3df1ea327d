// The one script. Every page can be read without it; it adds the theme switch, live logs and live states.
"use strict";

(() => {
  const root = document.documentElement;
  const THEME = "dstack-theme";

  function stored() {
    try { return localStorage.getItem(THEME); } catch { return null; }
  }
  const theme = stored();
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;

  document.addEventListener("DOMContentLoaded", () => {
    startTheme();
    startCopying(document);
    startFilters();
    const log = document.getElementById("log");
    if (log) startLog(log);
    if (document.body.hasAttribute("data-moving")) refreshLater();
  });

  function startTheme() {
    const button = document.getElementById("theme");
    button.hidden = false;
    button.addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      try { localStorage.setItem(THEME, root.dataset.theme); } catch { /* private mode: the choice lasts for this page */ }
    });
  }

  function startCopying(within) {
    if (!navigator.clipboard) return; // only offered on https and localhost
    for (const button of within.querySelectorAll("[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.dataset.copy);
        const word = button.querySelector("span");
        word.textContent = "Copied";
        setTimeout(() => { word.textContent = "Copy"; }, 1500);
      });
    }
  }

  function startFilters() {
    const form = document.querySelector("form[data-auto]");
    if (!form) return;
    form.querySelector("button").hidden = true;
    form.addEventListener("change", () => {
      for (const select of form.querySelectorAll("select")) select.disabled = !select.value;
      form.submit();
    });
  }

  // Live states: ask for the same page again and take over the regions that changed.
  let wait = 3000;

  function refreshLater() {
    setTimeout(async () => {
      if (!document.hidden) await refresh().catch(() => { wait = Math.min(wait * 2, 60000); });
      if (document.body.hasAttribute("data-moving")) refreshLater();
    }, wait);
  }

  async function refresh() {
    const again = new URL(location.href);
    again.hash = "";
    again.searchParams.set("live", "1"); // the page without the lines of its log: those come as events
    const answer = await fetch(again, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) throw new Error("not now");
    wait = 3000;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of document.querySelectorAll("[data-live]")) {
      const news = fresh.getElementById(region.id);
      if (!news || news.innerHTML === region.innerHTML || region.contains(document.activeElement)) continue;
      for (const open of region.querySelectorAll("details[open]")) {
        const same = news.querySelector("#" + CSS.escape(open.id));
        if (same) same.open = true;
      }
      region.replaceWith(document.adoptNode(news));
      startCopying(news);
    }
    document.title = fresh.title;
    document.body.toggleAttribute("data-moving", fresh.body.hasAttribute("data-moving"));
    // A job was taken up, or tried again, since the page was made: its log is another one.
    const log = document.getElementById("log"), other = fresh.getElementById("log");
    const isNew = other && (!log || log.dataset.lines !== other.dataset.lines);
    if (isNew && !location.search.includes("attempt=") && !(log && log.contains(document.activeElement))) location.reload();
  }

  function startLog(log) {
    const follow = document.getElementById("follow"), wrap = document.getElementById("wrap");
    let scrolling = false;

    const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const following = () => follow && follow.getAttribute("aria-pressed") === "true";
    const toEnd = () => {
      const was = log.scrollTop;
      log.scrollTop = log.scrollHeight;
      scrolling = log.scrollTop !== was; // then an event of ours follows, which is no one's wish
    };

    if (wrap) {
      wrap.hidden = false;
      wrap.addEventListener("click", () => {
        const on = log.classList.toggle("long");
        wrap.setAttribute("aria-pressed", String(!on));
      });
    }
    if (follow && log.dataset.stream) {
      follow.hidden = false;
      follow.addEventListener("click", () => {
        follow.setAttribute("aria-pressed", String(!following()));
        if (following()) toEnd();
      });
      log.addEventListener("scroll", () => {
        if (scrolling) { scrolling = false; return; }
        follow.setAttribute("aria-pressed", String(atEnd()));
      });
    }

    log.addEventListener("click", (event) => {
      const more = event.target.closest("#earlier");
      if (more) { event.preventDefault(); loadEarlier(log, more); }
    });
    showLine(log);
    window.addEventListener("hashchange", () => showLine(log));
    if (log.dataset.stream) {
      if (!/^#L\d+$/.test(location.hash)) toEnd();
      stream(log, following, toEnd);
    } else if (!location.hash && !log.classList.contains("whole")) {
      toEnd();
    }
  }

  async function loadEarlier(log, more) {
    more.textContent = "Loading…";
    const answer = await fetch(more.href + "&fragment=1").catch(() => null);
    if (!answer || !answer.ok || answer.redirected) { location.href = more.href; return; }
    const before = log.scrollHeight - log.scrollTop;
    const lines = document.createElement("template");
    lines.innerHTML = await answer.text();
    more.replaceWith(lines.content);
    log.scrollTop = log.scrollHeight - before;
  }

  // `#L120` of a line that is not on this page: the page of the log that has it.
  function showLine(log) {
    const found = /^#L(\d{1,15})$/.exec(location.hash);
    if (!found) return;
    const line = document.getElementById("L" + found[1]);
    for (const marked of log.querySelectorAll(".marked")) marked.classList.remove("marked");
    if (line) { line.classList.add("marked"); line.scrollIntoView({ block: "center" }); }
    else if (log.dataset.lines) location.href = log.dataset.lines + "&line=" + found[1] + location.hash;
  }

  // Lets the oldest lines go and leaves a link to the page of the log that has them.
  function trim(log, most) {
    while (log.childElementCount > most) log.firstElementChild.remove();
    const first = log.querySelector(".ll[id]"), link = document.createElement("a");
    link.className = "log-more";
    link.textContent = "Earlier lines";
    link.href = log.dataset.lines + "&line=" + first.id.slice(1);
    log.prepend(link);
  }

  function stream(log, following, toEnd) {
    const source = new EventSource(log.dataset.stream);
    const open = document.getElementById("open-line"), word = document.getElementById("log-state");
    const MOST = 20000; // lines kept on the page

    function add(html) {
      const empty = document.getElementById("log-empty");
      if (empty) empty.remove();
      const stays = following();
      const lines = document.createElement("template");
      lines.innerHTML = html;
      log.insertBefore(lines.content, open);
      if (log.childElementCount > MOST) trim(log, MOST * 0.9);
      if (stays) toEnd();
    }

    source.addEventListener("lines", (event) => add(event.data));
    source.addEventListener("skip", (event) => add(event.data));
    source.addEventListener("partial", (event) => {
      open.lastElementChild.innerHTML = event.data;
      if (following()) toEnd();
    });
    source.addEventListener("end", () => {
      source.close();
      open.lastElementChild.textContent = "";
      word.textContent = "";
      document.getElementById("follow").hidden = true;
      if (document.body.hasAttribute("data-moving")) refresh().catch(() => {});
    });
    source.onerror = () => { word.textContent = source.readyState === EventSource.CLOSED ? "" : "Reconnecting"; };
    source.onopen = () => { word.textContent = "Live"; };
  }
})();
