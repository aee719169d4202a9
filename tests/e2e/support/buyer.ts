/** What a person does in the shop, in words of the pages. */
import type { Page } from 'playwright-core';

export const GOOD_CARD = '4242 4242 4242 4242';

/** Opens the prices. Waits until the page knows whose balance it shows. */
export async function openPricing(page: Page, url: string): Promise<void> {
  await page.goto(`${url}/pricing`);
  await page.getByRole('button', { name: 'Buy 50 credits for $5.00' }).waitFor();
  await page.getByText(/^You have .* to spend\./).waitFor();
}

/** Changes the local user through the switch in the header. */
export async function actAs(page: Page, userId: string): Promise<void> {
  await page.getByRole('button', { name: /^Acting as/ }).click();
  const dialog = page.getByRole('dialog', { name: 'Your identity on these pages' });
  await dialog.getByLabel('User id').fill(userId);
  await dialog.getByLabel('E-mail').fill(`${userId}@example.com`);
  await dialog.getByRole('button', { name: 'Act as this user' }).click();
  await page.getByRole('button', { name: `Acting as ${userId}` }).waitFor();
}

/** Presses a pack's button and waits for the sandbox's payment page; answers the session's id. */
export async function startCheckout(page: Page, button = 'Buy 50 credits for $5.00') {
  await page.getByRole('button', { name: button }).click();
  return waitForPaymentPage(page);
}

export async function waitForPaymentPage(page: Page): Promise<string> {
  await page.waitForURL(/\/c\/pay\/cs_/);
  return new URL(page.url()).pathname.replace('/c/pay/', '');
}

export async function payByCard(page: Page, card = GOOD_CARD): Promise<void> {
  await page.getByLabel('Card number').fill(card);
  await page.getByRole('button', { name: /^Pay \$/ }).click();
}

/** The way of one purchase of 50 credits, from the prices to the page that says they are there. */
export async function buyPack(page: Page, url: string): Promise<string> {
  await openPricing(page, url);
  const sessionId = await startCheckout(page);
  await payByCard(page);
  await waitForCredits(page, 50);
  return sessionId;
}

export async function waitForCredits(page: Page, credits: number): Promise<void> {
  await page.waitForURL(/\/success\?session_id=cs_/);
  await page.getByRole('heading', { name: `+${credits} credits` }).waitFor();
}

/** The balance on the page of a purchase that has ended, as a screen reader says it. */
export function readNewBalance(page: Page): Promise<string | null> {
  return page.getByText('Your balance is now').locator('strong .sr-only').textContent();
}

/** Reads the account page: the number on top, and the rows of the history as text. */
export async function readAccount(
  page: Page,
  url: string,
): Promise<{ available: string | null; rows: string[][] }> {
  await page.goto(`${url}/account`);
  return readOpenAccount(page);
}

/** As `readAccount`, of the account page that is open. */
export async function readOpenAccount(
  page: Page,
): Promise<{ available: string | null; rows: string[][] }> {
  const available = page.getByText('Available to spend').locator('+ p');
  await available.waitFor();
  await page
    .getByText(/^(All [\d,]+ entr|No entries yet)/)
    .first()
    .waitFor();
  const rows: string[][] = [];
  for (const row of await page.locator('tbody tr').all()) {
    rows.push(await row.locator('td:nth-child(n+2)').allInnerTexts());
  }
  return { available: await available.textContent(), rows };
}
