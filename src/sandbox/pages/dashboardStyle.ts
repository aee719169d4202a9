/** What the desk adds to the look of the other pages: cards, tables and small forms side by side. */
export const DASHBOARD_STYLE = `
.desk { width: 100%; max-width: 1280px; margin: 0 auto; padding: 24px 24px 64px; }
.desk h1 { margin: 0; font-size: 24px; }
.desk h2 { margin: 0 0 12px; font-size: 17px; }
.top { display: flex; flex-wrap: wrap; gap: 16px 32px; align-items: flex-end; justify-content: space-between; margin-bottom: 20px; }
.top p { margin: 4px 0 0; color: var(--soft); font-size: 14px; }
.now { font-size: 26px; font-weight: 650; letter-spacing: -.01em; font-variant-numeric: tabular-nums; margin: 0 0 12px; }
.now small { display: block; font-size: 14px; font-weight: 400; color: var(--soft); letter-spacing: 0; }
.cards { display: grid; grid-template-columns: repeat(12, 1fr); gap: 16px; }
.panel { grid-column: span 12; border: 1px solid var(--line); border-radius: 14px; padding: 18px 20px; background: var(--paper); min-width: 0; }
@media (min-width: 900px) { .third { grid-column: span 4; } .half { grid-column: span 6; } }
.panel table { margin: 0; }
.panel td, .panel th { padding: 8px 12px 8px 0; vertical-align: middle; }
.panel td:last-child, .panel th:last-child { padding-left: 0; padding-right: 0; }
.scroll { overflow-x: auto; }
/* A narrow screen scrolls a table; ids broken anywhere would make columns one letter wide. */
.scroll .mono { overflow-wrap: normal; white-space: nowrap; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.when { white-space: nowrap; color: var(--soft); font-variant-numeric: tabular-nums; }
.empty { color: var(--soft); margin: 0; }
.row { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.row + .row { margin-top: 8px; }
.empty + .row, details + .row { margin-top: 14px; }
.row label { margin: 0; }
.row form { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 0; }
td form { display: inline-flex; gap: 6px; margin: 0 0 0 6px; align-items: center; }
td .row { justify-content: flex-end; flex-wrap: nowrap; }
.desk input, .desk select { width: auto; min-width: 0; min-height: 36px; padding: 5px 10px; font-size: 14px; }
.desk select { padding-right: 32px; background-position: right 10px center; }
.desk input[type="number"], .desk input.short { width: 92px; }
.desk .grow { flex: 1 1 160px; width: 100%; }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: 10px 12px; margin-bottom: 14px; }
.fields .wide { grid-column: 1 / -1; }
.fields input, .fields select { width: 100%; }
.fields input[type="number"] { width: 100%; }
.fields label { margin-bottom: 4px; font-size: 13px; }
.act {
  font: inherit; font-size: 14px; font-weight: 600; min-height: 36px; padding: 5px 14px; border-radius: 8px; cursor: pointer;
  border: 1px solid var(--line); background: var(--field); color: var(--ink); white-space: nowrap;
}
.act:hover { border-color: var(--soft); }
.act.main { background: var(--brand); border-color: var(--brand); color: var(--brand-ink); }
.act.main:hover { filter: brightness(1.08); }
.tag { display: inline-block; padding: 1px 9px; border-radius: 99px; font-size: 13px; font-weight: 550; white-space: nowrap; background: var(--side); color: var(--soft); }
.tag.good { background: var(--good-paper); color: var(--good); }
.tag.bad { background: var(--bad-paper); color: var(--bad); }
.tag.busy { background: var(--ribbon); color: var(--ribbon-ink); }
.desk .alert { margin: 0 0 16px; }
.desk details { margin: 14px 0 0; padding: 0 14px; }
.desk details > :last-child { margin-bottom: 14px; }
.mono { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.mute { color: var(--soft); font-size: 13px; }
`;
