/** One look for all pages of the sandbox: light and dark, phone and desk, no foreign font. */
export const STYLE = `
:root {
  --ink: #1a1f36; --soft: #596273; --line: #d9dee6; --paper: #ffffff; --side: #f3f5f9;
  --field: #ffffff; --brand: #3f4bd8; --brand-ink: #ffffff; --focus: #3f4bd8;
  --bad: #b3122f; --bad-paper: #fdecef; --good: #0b6b45; --good-paper: #e6f6ee;
  --ribbon: #ffd65c; --ribbon-ink: #3a2c00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #eceff6; --soft: #a7b0c2; --line: #363d4d; --paper: #14171f; --side: #1b1f2a;
    --field: #1f2430; --brand: #8b95ff; --brand-ink: #10121a; --focus: #aab1ff;
    --bad: #ff9aab; --bad-paper: #3a1820; --good: #7fdcb2; --good-paper: #12352a;
    --ribbon: #4a3a05; --ribbon-ink: #ffe9a6;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; min-height: 100vh; display: flex; flex-direction: column;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  color: var(--ink); background: var(--paper);
}
.ribbon {
  margin: 0; padding: 8px 20px; text-align: center; font-size: 14px;
  background: var(--ribbon); color: var(--ribbon-ink);
}
.ribbon strong { letter-spacing: .08em; }
a { color: var(--brand); }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: 6px; }
.split { flex: 1; display: grid; grid-template-columns: 1fr 1fr; }
.side { background: var(--side); display: flex; justify-content: flex-end; }
.side > div { width: 100%; max-width: 460px; padding: 56px 48px 40px 24px; }
.form { display: flex; justify-content: flex-start; }
.form > div { width: 100%; max-width: 480px; padding: 56px 24px 40px 48px; }
.back { display: inline-flex; align-items: center; gap: 8px; color: var(--soft); text-decoration: none; font-weight: 500; }
.back:hover { color: var(--ink); }
.shop { margin: 28px 0 2px; color: var(--soft); font-weight: 500; }
.total { margin: 0 0 28px; font-size: 40px; line-height: 1.15; font-weight: 650; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.total small { font-size: 16px; font-weight: 500; color: var(--soft); letter-spacing: 0; }
.items { list-style: none; margin: 0; padding: 0; }
.items li { display: flex; justify-content: space-between; gap: 16px; padding: 14px 0; border-bottom: 1px solid var(--line); }
.items .name { font-weight: 600; overflow-wrap: anywhere; }
.items .note { display: block; color: var(--soft); font-size: 14px; font-weight: 400; }
.items .amount { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.sums { margin: 14px 0 0; }
.sums div { display: flex; justify-content: space-between; padding: 5px 0; color: var(--soft); font-variant-numeric: tabular-nums; }
.sums .due { color: var(--ink); font-weight: 650; padding-top: 12px; }
.sums dt, .sums dd { margin: 0; }
h1 { font-size: 22px; line-height: 1.3; margin: 0 0 20px; letter-spacing: -.01em; }
h2 { font-size: 16px; margin: 28px 0 10px; }
label, .label { display: block; font-size: 14px; font-weight: 550; margin: 0 0 6px; color: var(--soft); }
.field { margin: 0 0 16px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; }
input, select {
  width: 100%; font: inherit; color: var(--ink); background: var(--field);
  border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; min-height: 44px;
}
select {
  appearance: none; padding-right: 40px; background-repeat: no-repeat; background-position: right 14px center;
  background-image: url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='12' height='8' fill='none' stroke='%23808898' stroke-width='2'%3E%3Cpath d='m1 1 5 5 5-5'/%3E%3C/svg%3E");
}
input::placeholder { color: var(--soft); opacity: .8; }
input:hover, select:hover { border-color: var(--soft); }
input:focus-visible, select:focus-visible { outline-offset: 0; border-color: var(--focus); border-radius: 8px; }
input[aria-invalid="true"] { border-color: var(--bad); }
.wrong { color: var(--bad); font-size: 14px; margin: 6px 0 0; }
.fixed { padding: 10px 0; font-weight: 550; overflow-wrap: anywhere; }
.quantity { display: flex; align-items: center; gap: 8px; margin-top: 6px; font-size: 14px; color: var(--soft); font-weight: 400; }
.quantity input { width: 84px; min-height: 44px; padding: 6px 10px; }
fieldset { border: 0; padding: 0; margin: 0; min-width: 0; }
legend { padding: 0; font-size: 16px; font-weight: 600; margin: 8px 0 10px; }
.methods { border: 1px solid var(--line); border-radius: 12px; overflow: hidden; margin-bottom: 20px; }
.method + .method { border-top: 1px solid var(--line); }
.method > label { display: flex; align-items: center; gap: 12px; margin: 0; padding: 14px 16px; color: var(--ink); font-size: 16px; cursor: pointer; min-height: 48px; }
.method > label .hint { margin-left: auto; color: var(--soft); font-size: 14px; font-weight: 400; text-align: right; }
.method input[type="radio"] { width: 18px; height: 18px; min-height: 0; margin: 0; accent-color: var(--brand); flex: none; }
.method .details { display: none; padding: 4px 16px 2px; }
.method:has(input[type="radio"]:checked) .details, .method.single .details { display: block; }
.method.single > label { cursor: default; }
.pay, .plain {
  display: flex; align-items: center; justify-content: center; width: 100%; min-height: 50px; padding: 10px 16px;
  font: inherit; font-weight: 650; border-radius: 10px; cursor: pointer; text-decoration: none;
}
.pay { border: 0; background: var(--brand); color: var(--brand-ink); font-size: 17px; }
.pay:hover { filter: brightness(1.08); }
.pay[aria-busy="true"] { opacity: .7; cursor: progress; }
.plain { background: transparent; color: var(--ink); border: 1px solid var(--line); }
.small { width: auto; min-height: 44px; padding: 4px 14px; display: inline-flex; font-size: 14px; }
.alert { border-radius: 10px; padding: 12px 16px; margin: 0 0 20px; font-weight: 550; }
.alert.bad { background: var(--bad-paper); color: var(--bad); }
.alert.good { background: var(--good-paper); color: var(--good); }
.alert:focus-visible { outline: none; }
.hint-below { color: var(--soft); font-size: 14px; margin: -6px 0 14px; }
.first-submit { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); border: 0; padding: 0; }
.fine { color: var(--soft); font-size: 13px; text-align: center; margin: 14px 0 0; }
details { margin-top: 24px; border: 1px solid var(--line); border-radius: 10px; padding: 0 16px; }
summary { cursor: pointer; font-weight: 550; padding: 12px 0; color: var(--soft); }
table { width: 100%; border-collapse: collapse; font-size: 14px; margin: 0 0 12px; }
th, td { text-align: left; padding: 7px 0; border-top: 1px solid var(--line); vertical-align: top; font-weight: 400; }
thead th { border-top: 0; color: var(--soft); font-weight: 550; }
code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
td:last-child, th:last-child { text-align: right; padding-left: 12px; }
.card { width: 100%; max-width: 560px; margin: 64px auto; padding: 0 24px; }
.card p { color: var(--soft); }
.card .alert { margin-top: 0; }
.actions { display: grid; gap: 12px; margin-top: 28px; }
@media (max-width: 800px) {
  .split { display: block; }
  .side > div, .form > div { max-width: 560px; margin: 0 auto; padding: 24px 20px; }
  .side { justify-content: center; }
  .shop { margin-top: 18px; }
  .total { font-size: 34px; margin-bottom: 12px; }
  .card { margin: 40px auto; }
}
@media (prefers-reduced-motion: no-preference) { .pay { transition: filter .12s; } }
`;

/** Comfort only: the page works the same without it. */
export const SCRIPT = `
const number = document.querySelector('[name=card_number]');
number?.addEventListener('input', () => {
  number.value = number.value.replace(/\\D/g, '').slice(0, 19).replace(/(.{4})(?=.)/g, '$1 ');
});
const expiry = document.querySelector('[name=expiry]');
expiry?.addEventListener('input', (event) => {
  const digits = expiry.value.replace(/\\D/g, '').slice(0, 4);
  const deleting = event.inputType?.startsWith('delete');
  expiry.value = digits.length > 2 || (digits.length === 2 && !deleting)
    ? digits.slice(0, 2) + ' / ' + digits.slice(2) : digits;
});
document.querySelector('form')?.addEventListener('submit', (event) => {
  const button = event.submitter;
  if (!button?.classList.contains('pay')) return;
  button.setAttribute('aria-busy', 'true');
  button.textContent = 'Processing\\u2026';
});
addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });
document.querySelector('[role=alert]')?.focus();
`;
