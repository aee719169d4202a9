import { html, page } from './html.ts';

/** What `/` answers while the web pages are not built. */
export const homePage = page({
  title: 'Purser',
  body: html`<main><h1>Purser is running</h1>
<p class="lead">The API answers; the web pages (pricing, success, account) are not built yet.</p>
<pre tabindex="0"><code>npm run build</code></pre>
<p>Then start Purser again. Meanwhile: <a href="/api/docs">API reference</a>, <a href="/api/pricing">pricing as JSON</a>, <a href="/readyz">readiness</a>.</p></main>`,
});

export const notFoundPage = page({
  title: 'Not found - Purser',
  body: html`<main><p><span class="badge">HTTP 404</span></p><h1>There is no such page</h1>
<p><a href="/">To the start</a> &middot; <a href="/api/docs">API reference</a></p></main>`,
});
