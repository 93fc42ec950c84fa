// Contrast, labels and keyboard of the pages that the product writes, by axe-core in Chromium, light and dark, wide and narrow:
//
//     npm install --prefix FOLDER axe-core puppeteer-core
//     NODE_PATH=FOLDER/node_modules node experiments/pages/check_pages.mjs PAGE.html[#view] ...
//
// It says what axe finds and which elements, and what Tab cannot reach or does not show; its exit code is 1 where there is anything.
// Without the packages or a browser (CHROMIUM names one) it says so and ends with 0: no test depends on it.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const browserPath = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => path && existsSync(path));
const pages = process.argv.slice(2);
let puppeteer;
let axe;
try {
  puppeteer = require("puppeteer-core");
  axe = require.resolve("axe-core/axe.min.js");
} catch {
  puppeteer = null;
}
if (!puppeteer || !browserPath) {
  console.log(`skipped: ${puppeteer ? "no browser was found, CHROMIUM names one" : "npm install axe-core puppeteer-core, and NODE_PATH"}`);
  process.exit(0);
}

const SIZES = { wide: [1400, 1000], phone: [390, 844] };
const STOPS = 400; // of Tab, on a page
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/* `page.html#view` as an address. */
function address(text) {
  const [path, ...view] = text.split("#");
  return pathToFileURL(path).href + (view.length ? `#${view.join("#")}` : "");
}

/* What axe finds on the page as it stands, a line an element. */
async function violations(page) {
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations.flatMap(({ id, help, nodes }) => nodes.map(({ target, any }) => {
    const { data } = any[0] ?? {};
    const ratio = id === "color-contrast" && data ? ` (${data.fgColor} on ${data.bgColor}: ${data.contrastRatio})` : "";
    return `${id}: ${help}: ${target.join(" ")}${ratio}`;
  }));
}

/* What Tab passes over, and where the focus cannot be seen. */
async function keyboard(page) {
  await page.evaluate(() => {
    document.activeElement?.blur();
    scrollTo(0, 0);
    const near = document.querySelector("dialog[open]") ?? document;
    const seen = (each) => each.checkVisibility({ visibilityProperty: true }) && !each.closest("[inert]") && each.getClientRects().length;
    // one stop of a group whose other members arrows reach has tabindex 0, the others -1
    window.unreached = new Set([...near.querySelectorAll("a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary, [tabindex='0']")].filter((each) => each.tabIndex >= 0 && seen(each) && each.type !== "radio"));
  });
  const lines = [];
  for (let stop = 0; stop < STOPS; stop++) {
    await page.keyboard.press("Tab");
    const state = await page.evaluate(() => {
      const each = document.activeElement;
      window.unreached.delete(each);
      if (each === document.body || !each.getClientRects().length) return { left: window.unreached.size };
      const style = getComputedStyle(each);
      const marked = style.outlineStyle !== "none" || style.boxShadow !== "none";
      return { left: window.unreached.size, unmarked: marked ? null : each.outerHTML.slice(0, 90) };
    });
    if (state.unmarked) lines.push(`focus-visible: no outline: ${state.unmarked}`);
    if (!state.left) return lines;
  }
  const left = await page.evaluate(() => [...window.unreached].slice(0, 8).map((each) => each.outerHTML.slice(0, 90)));
  return [...lines, ...left.map((each) => `keyboard: Tab does not reach ${each}`)];
}

const browser = await puppeteer.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-gpu"] });
let count = 0;
for (const text of pages) {
  for (const scheme of ["light", "dark"]) {
    for (const [size, [width, height]] of Object.entries(SIZES)) {
      const page = await browser.newPage();
      await page.setBypassCSP(true);
      await page.setViewport({ width, height });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
      await page.goto(address(text), { waitUntil: "load" });
      await page.addScriptTag({ path: axe });
      await wait(800);
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      const lines = [...await violations(page), ...await keyboard(page), ...(sideways > 1 ? [`layout: the page is ${sideways} pixels too wide`] : [])];
      count += lines.length;
      for (const line of new Set(lines)) console.log(`${text} ${scheme} ${size}: ${line}`);
      await page.close();
    }
  }
}
await browser.close();
console.log(`${pages.length} pages, light and dark, wide and narrow: ${count || "no"} findings`);
process.exitCode = count ? 1 : 0;
