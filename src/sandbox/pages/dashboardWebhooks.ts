import { apiFaults } from '../apiFaults.ts';
import type { Context } from '../context.ts';
import { currentFaults } from '../faults.ts';
import { deliveries, webhookEndpoints } from '../tables.ts';
import { EVENT_VERSIONS } from '../versions.ts';
import { take } from './dashboardMoney.ts';
import { button, minute, options, panel, table, tag } from './dashboardParts.ts';
import { type Html, html } from './html.ts';

const DELIVERIES_SHOWN_MAX = 20;

export function breakPanel(ctx: Context): Html {
  const broken = [...currentFaults(ctx), ...apiFaults(ctx)];
  return panel(
    'Break things',
    'third',
    html`${
      broken.length > 0 &&
      html`<div class="alert bad">Broken now:${broken.map(
        (rule) => html` <span class="mono">${JSON.stringify(rule)}</span>`,
      )}</div>`
    }
<form method="post" action="/dashboard/break"><div class="fields">
<div class="wide"><label for="kind">Deliveries</label><select id="kind" name="kind">${options({
      duplicate: 'come three times',
      delay: 'come 10 seconds late',
      reorder: 'come in threes, last one first',
      drop: 'never come',
      wrong_secret: 'are signed wrongly at first',
      lose_answer: 'are sent again: the answer is lost',
      down: 'find the endpoint down',
    })}</select></div>
<div><label for="types">Only these types</label><input id="types" name="types" placeholder="all"></div>
<div><label for="times">How many</label><input id="times" name="times" type="number" min="1" placeholder="all"></div>
</div><button class="act">Break deliveries</button></form>
<details><summary>Break the API</summary><form method="post" action="/dashboard/break_api"><div class="fields">
<div class="wide"><label for="api_kind">Calls</label><select id="api_kind" name="kind">${options({
      rate: 'are refused: 429, too many',
      down: 'fail: 503, nothing is done',
      after: 'fail: 500, after it was done',
      lost: 'get no answer, after it was done',
    })}</select></div>
<div><label for="path">Only this path</label><input id="path" name="path" placeholder="/v1/refunds"></div>
<div><label for="api_times">How many</label><input id="api_times" name="times" type="number" min="1" placeholder="all"></div>
</div><button class="act">Break the API</button></form></details>
${broken.length > 0 && html`<div class="row">${button('mend', 'All well again', {}, 'main')}</div>`}`,
  );
}

export function deliveriesPanel(ctx: Context): Html {
  const rows = take(ctx.store.walk(deliveries, 'newest_first'), DELIVERIES_SHOWN_MAX).map(
    ({ view }) => {
      const endpoint = ctx.store.get(webhookEndpoints, view.endpoint)?.view;
      const last = view.attempts.at(-1);
      const note =
        view.status === 'pending' && view.next_attempt_at !== null
          ? `${view.attempts.length > 0 ? 'again' : 'first'} at ${minute(view.next_attempt_at)}`
          : (last?.error ?? '');
      return html`<tr><td class="when">${minute(view.created)}</td>
<td>${view.event_type}<div class="mono mute">${view.event}</div></td>
<td class="mono">${endpoint?.url ?? 'deleted endpoint'}</td>
<td>${tag(view.status)}${note !== '' && html`<div class="mute">${note}</div>`}</td>
<td class="num">${view.attempts.length}</td>
<td class="num">${endpoint !== undefined && button('resend', 'Send again', { id: view.event })}</td></tr>`;
    },
  );
  return panel(
    'Deliveries',
    'whole',
    table(
      ['When (UTC)', 'Event', 'To', 'State', 'Attempts', 'Do'],
      rows,
      'Nothing was sent yet. Deliveries appear here as soon as there is an endpoint and something happens.',
    ),
  );
}

export function endpointsPanel(ctx: Context): Html {
  const rows = [...ctx.store.walk(webhookEndpoints, 'oldest_first')].map(
    ({
      view,
      hidden,
    }) => html`<tr><td class="mono">${view.url}<div class="mute">${view.id}</div></td>
<td>${hidden.payload === 'thin' ? 'thin' : (view.api_version ?? 'newest')}</td>
<td>${tag(view.status === 'enabled' ? 'on' : 'off')}</td></tr>`,
  );
  return panel(
    'Webhook endpoints',
    'whole',
    html`${table(['Endpoint', 'Version', 'State'], rows, 'No endpoint yet: events are made, and nobody is told.')}
<details><summary>Add an endpoint</summary><form method="post" action="/dashboard/endpoint"><div class="fields">
<div class="wide"><label for="url">URL</label><input id="url" name="url" type="url" required placeholder="http://127.0.0.1:3000/api/webhooks/stripe"></div>
<div><label for="version">Version</label><select id="version" name="version">${options({
      '': 'newest',
      ...Object.fromEntries([...EVENT_VERSIONS].reverse().map((version) => [version, version])),
    })}</select></div>
<div><label for="payload">Payload</label><select id="payload" name="payload">${options({ snapshot: 'Snapshot', thin: 'Thin' })}</select></div>
</div><button class="act">Add</button></form></details>`,
  );
}
