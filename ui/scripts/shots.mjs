// Pictures of every page, dark, light and small, from a running Sonde:
//   npm run shots -- LOGIN_LINK_OR_URL DIRECTORY
// Fails on any error of a script, any refusal of the content security policy, and any request elsewhere.
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const [link, place = "shots"] = process.argv.slice(2);
if (link === undefined) {
  console.error("usage: npm run shots -- LOGIN_LINK_OR_URL [DIRECTORY]");
  process.exit(64);
}
mkdirSync(place, { recursive: true });
const { origin } = new URL(link);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const first = await browser.newContext();
await (await first.newPage()).goto(link);
const storageState = await first.storageState();
const faults = [];

async function pictures(name, options, visit) {
  const context = await browser.newContext({ storageState, ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`${name}: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(`${name}: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith("blob:"))
      faults.push(`${name}: ${request.url()}`);
  });
  const shot = async (what) => {
    await page.waitForTimeout(900);
    await page.screenshot({ path: `${place}/${what}-${name}.png` });
  };
  await visit(page, shot);
  await context.close();
}

async function everyPage(page, shot) {
  await page.goto(`${origin}/`);
  await shot("overview");
  await page.goto(`${origin}/services`);
  await shot("services");
  const service = page.getByTestId("service-row").first();
  if (await service.count()) {
    await service.getByRole("button").first().click();
    await shot("service");
  }
  await page.goto(`${origin}/calls`);
  await shot("calls");
  const call = page.getByTestId("call-row").nth(2);
  if (await call.count()) {
    await call.click();
    await shot("call");
  }
  await page.goto(`${origin}/fleet`);
  await shot("fleet");
}

const large = { viewport: { width: 1440, height: 900 } };
await pictures("dark", { ...large, colorScheme: "dark" }, everyPage);
await pictures("light", { ...large, colorScheme: "light" }, everyPage);
await pictures("small", { viewport: { width: 390, height: 844 }, colorScheme: "dark" }, everyPage);
await browser.close();
for (const fault of faults) console.error(fault);
process.exit(faults.length === 0 ? 0 : 1);
