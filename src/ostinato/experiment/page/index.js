// The list of runs: search, select, and the list again every few seconds. What is selected stays selected.
const $ = id => document.getElementById(id), list = $("list"), live = JSON.parse($("live").textContent);

function find() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of list.querySelectorAll("tr[data-text]"))
    row.hidden = !words.every(word => row.dataset.text.toLowerCase().includes(word));
}

function chosen() { return [...list.querySelectorAll("input:checked")].map(box => box.value); }

function say() {
  const count = chosen().length;
  $("open").disabled = count === 0;
  $("open").textContent = count ? "Open " + count + (count > 1 ? " runs" : " run") : "Open selected";
}

async function follow() {
  let tag = "", took = 0;
  for (;;) {
    await new Promise(done => setTimeout(done, Math.max(document.hidden ? 30000 : live.seconds * 1000, 10 * took)));
    const asked = performance.now();
    try {
      const answer = await fetch(live.address, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status !== 200) continue;
      tag = answer.headers.get("ETag") || "";
      const kept = new Set(chosen());
      list.innerHTML = (await answer.json()).parts.list;  // escaped by the server
      for (const box of list.querySelectorAll("input[type=checkbox]")) box.checked = kept.has(box.value);
      find(); say();
    } catch (problem) { /* the server is gone; it may come back */ }
    took = performance.now() - asked;
  }
}

$("find").hidden = false;
$("find").addEventListener("input", find);
list.addEventListener("change", say);
say(); follow();
