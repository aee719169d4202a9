/** Style of the server-rendered pages; a file of its own, since the policy forbids inline style. */
export const stylesheet = `
:root {
  color-scheme: light dark;
  --ink: #16202c; --soft: #566474; --line: #dfe5ec; --paper: #ffffff; --wash: #f5f7fa;
  --brand: #0b6b53; --get: #0a5fa8; --post: #0b6b53; --put: #8a5200; --code: #eef2f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8edf3; --soft: #a3b0bf; --line: #2b3643; --paper: #121920; --wash: #18212b;
    --brand: #58d3ae; --get: #78b9f5; --post: #58d3ae; --put: #efb45f; --code: #202b37;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0 auto; max-width: 44rem; padding: 3rem 1.25rem 5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", sans-serif;
}
body.wide { max-width: 76rem; padding-top: 2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; padding-bottom: .4rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 0; }
h4 { font-size: .8rem; margin: 1.25rem 0 .4rem; text-transform: uppercase; letter-spacing: .05em; color: var(--soft); }
p { margin: .5rem 0; }
a { color: var(--brand); text-underline-offset: .15em; }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--brand); outline-offset: 3px; border-radius: 2px; }
code, pre { font: .875em/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { background: var(--code); padding: .1em .35em; border-radius: 4px; overflow-wrap: anywhere; }
pre { background: var(--code); padding: .9rem 1rem; border-radius: 8px; overflow-x: auto; margin: .4rem 0; }
pre code { background: none; padding: 0; overflow-wrap: normal; }
.soft { color: var(--soft); }
.lead { font-size: 1.1rem; color: var(--soft); }
.layout { display: grid; grid-template-columns: 15rem minmax(0, 1fr); gap: 3rem; align-items: start; }
.index { position: sticky; top: 1.5rem; max-height: calc(100vh - 3rem); overflow-y: auto; font-size: .9rem; }
.index strong { display: block; margin: 1rem 0 .25rem; font-size: .75rem; text-transform: uppercase; letter-spacing: .06em; color: var(--soft); }
.index ul { list-style: none; margin: 0; padding: 0; }
.index a { display: block; padding: .15rem 0; color: inherit; text-decoration: none; }
.index a:hover { color: var(--brand); text-decoration: underline; }
@media (max-width: 56rem) { .layout { display: block; } .index { position: static; max-height: none; margin-bottom: 2rem; } }
.route { border: 1px solid var(--line); border-radius: 12px; padding: 1.1rem 1.25rem 1.25rem; margin: 1rem 0; background: var(--wash); }
.route .line { display: flex; flex-wrap: wrap; gap: .4rem .75rem; align-items: baseline; }
.method { font: 700 .78rem/1 ui-monospace, Menlo, Consolas, monospace; letter-spacing: .04em; }
.method.get { color: var(--get); } .method.post { color: var(--post); } .method.put { color: var(--put); }
.path { font: 600 .95rem ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.door { margin-left: auto; font-size: .8rem; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.scroll { overflow-x: auto; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8rem; }
th, td { padding: .4rem .75rem .4rem 0; border-top: 1px solid var(--line); vertical-align: top; }
tr:first-child th { border-top: 0; }
td:first-child { white-space: nowrap; }
.status { font-variant-numeric: tabular-nums; font-weight: 600; }
details { margin-top: .75rem; }
summary { cursor: pointer; color: var(--brand); font-size: .9rem; }
.badge { display: inline-block; font-size: .8rem; padding: .1rem .6rem; border-radius: 99px; background: var(--code); color: var(--soft); }
`;
