// A page of `ckdiff html` in headless Chromium: does it ask for anything, complain, overflow, reach by keyboard, sort,
// search, save and lead to its addresses, and what does axe-core find? Leaves screenshots and a PDF.
//
//     npm install playwright-core axe-core          (once, in any directory; run this from there)
//     node .../benchmarks/page.mjs PAGE.html OUT [CHROMIUM]
//
// Exit status 1 where something is wrong. Needs no network.
import { createRequire } from "node:module";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.cwd(), "anything.js"));
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [page_file, out, binary = "/usr/bin/chromium"] = process.argv.slice(2);
const address = pathToFileURL(path.resolve(page_file)).href;
const WIDTHS = [360, 768, 1280];
const SCHEMES = ["light", "dark"];
const faults = [];
fs.mkdirSync(out, { recursive: true });

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "page-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: binary,
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

async function opened(width, scheme, script = true) {
  const page = await context.newPage();
  await page.setViewportSize({ width, height: width < 500 ? 740 : 900 });
  await page.emulateMedia({ colorScheme: scheme });
  const name = `${width} ${scheme}${script ? "" : " without script"}`;
  page.on("console", (said) => faults.push(`${name}: console: ${said.text()}`));
  page.on("pageerror", (error) => faults.push(`${name}: error: ${error.message}`));
  page.on("dialog", (dialog) => faults.push(`${name}: dialog: ${dialog.message()}`));
  page.on("request", (asked) => {
    if (asked.url() !== address && !/^(data|blob):/.test(asked.url())) faults.push(`${name}: request: ${asked.url()}`);
  });
  await page.goto(address);
  const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (over > 0) faults.push(`${name}: ${over} px wider than the screen`);
  return page;
}

for (const width of WIDTHS) {
  for (const scheme of SCHEMES) {
    const page = await opened(width, scheme);
    await page.screenshot({ path: path.join(out, `${width}-${scheme}-top.png`) });
    await page.screenshot({ path: path.join(out, `${width}-${scheme}.png`), fullPage: true });
    await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (over > 0) faults.push(`${width} ${scheme}, all open: ${over} px wider than the screen`);
    // The page's own policy forbids foreign scripts; the debugger is not bound by it.
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    for (const one of found.violations) {
      const words = `axe ${width} ${scheme}: ${one.impact} ${one.id} (${one.nodes.length}): ${one.nodes[0].target}`;
      console.log(words);
      if (["serious", "critical"].includes(one.impact)) faults.push(`${words} ${one.nodes[0].failureSummary}`);
    }
    console.log(`axe ${width} ${scheme}: ${found.violations.length} violations, ${found.passes.length} rules passed`);
    await page.close();
  }
}

// What the tab key reaches, in order, and what arrows do there.
const page = await opened(1280, "light");
const reached = [];
for (let n = 0; n < 400; n++) {
  await page.keyboard.press("Tab");
  const name = await page.evaluate(() => {
    const one = document.activeElement;
    if (one === document.body) return "";
    if (one.closest(".heat tbody td")) return "heatmap";
    if (one.closest(".strips")) return "curve";
    return one.tagName.toLowerCase();
  });
  if (!name || (n && reached.length > 3 && name === "a" && reached.includes("curve"))) break;
  reached.push(name);
  if (["heatmap", "curve"].includes(name) && reached.filter((one) => one === name).length === 1) {
    const says = () => page.evaluate(() => document.getElementById("says").textContent);
    const before = await says();
    await page.keyboard.press("ArrowRight");
    const after = await says();
    const shown = await page.evaluate(() => !document.getElementById("says").hidden);
    console.log(`${name}: "${before}" then "${after}"`);
    if (!before || !shown) faults.push(`${name}: nothing is said on focus`);
    await page.screenshot({ path: path.join(out, `focus-${name}.png`) });
  }
}
console.log(`tab reaches: ${reached.join(" ")}`);
for (const name of ["heatmap", "curve"]) {
  if (!reached.includes(name) && (await page.locator(name === "curve" ? ".strips" : ".heat").count())) {
    faults.push(`the tab key does not reach ${name}`);
  }
}
// Tables: sorted both ways, searched, saved.
await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
await page.waitForTimeout(100);
const tools = page.locator(".tools:has(button)").first();
if (await tools.count()) {
  const table = page.locator(".tools:has(button) + .scroll table").first();
  const rows = () => table.evaluate((one) => [...one.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent));
  const before = await rows();
  for (const way of ["ascending", "descending"]) {
    await table.locator("thead button").first().click();
    if ((await table.locator(`th[aria-sort=${way}]`).count()) !== 1) faults.push(`a table is not sorted ${way}`);
    if ((await rows()).sort().join() !== [...before].sort().join()) faults.push("sorting loses rows");
  }
  await tools.locator("input").fill("what no row holds");
  const none = await tools.locator("[role=status]").textContent();
  if (none !== "no row matches") faults.push(`a search without a hit says "${none}"`);
  await tools.locator("input").fill(before[0].trim());
  const left = await rows();
  if (!left.length || left.length > before.length) faults.push("searching for a row does not find it");
  const [saved] = await Promise.all([page.waitForEvent("download"), tools.locator("button").click()]);
  const lines = fs.readFileSync(await saved.path(), "utf8").trim().split("\n");
  if (lines.length !== before.length + 1) faults.push(`${saved.suggestedFilename()}: ${lines.length} lines`);
  await tools.locator("input").fill("");
}

// Addresses: of a question and of a window, on a narrow screen, where their part is closed at first.
for (const start of ["question-", "window-"]) {
  const id = await page.evaluate((one) => document.querySelector(`[id^='${one}']`)?.id, start);
  if (!id) continue;
  const narrow = await context.newPage();
  await narrow.setViewportSize({ width: 360, height: 740 });
  await narrow.goto(`${address}#${id}`);
  await narrow.waitForTimeout(100);
  const box = await narrow.locator(`[id='${id}']`).boundingBox();
  if (!box || box.y < 0 || box.y > 740) faults.push(`#${id} is not shown`);
  await narrow.close();
}
await page.close();
// Printed as it was opened: paper holds every part of it.
const paper = await opened(1280, "dark");
await paper.evaluate(() => {
  window.addEventListener("beforeprint", () => (window.folded = document.querySelectorAll("details.wide:not([open])").length));
});
await paper.emulateMedia({ media: "print", colorScheme: "dark" });
await paper.pdf({ path: path.join(out, "print.pdf"), format: "A4" });
if ((await paper.evaluate(() => window.folded)) !== 0) faults.push("print: a part stays folded");
await paper.close();

const context_without = await chromium.launch({ executablePath: binary, args: ["--no-sandbox", "--disable-gpu"] });
const plain = await (await context_without.newContext({ javaScriptEnabled: false })).newPage();
await plain.goto(address);
const text = await plain.locator("main").innerText();
if (!text.includes("Method")) faults.push("without script the page is empty");
await context_without.close();

await context.close();
fs.rmSync(profile, { recursive: true, force: true });
console.log(faults.length ? `FAULTS\n${faults.join("\n")}` : "no fault found");
process.exit(faults.length ? 1 : 0);
