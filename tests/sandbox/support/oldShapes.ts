type Shape = { [field: string]: unknown };

/**
 * What Stripe's changelog says about shapes: the fields an object had before a version and does not
 * have since (`before`), and those it has since and had not before (`since`).
 */
interface ChangedFields {
  readonly version: string;
  readonly object: string;
  readonly before: readonly string[];
  readonly since: readonly string[];
}

export const CHANGED_FIELDS: readonly ChangedFields[] = [
  {
    version: '2025-03-31.basil',
    object: 'invoice',
    before: [
      'subscription',
      'subscription_details',
      'payment_intent',
      'charge',
      'paid',
      'paid_out_of_band',
      'tax',
      'total_tax_amounts',
    ],
    since: ['parent', 'total_taxes'],
  },
  {
    version: '2025-03-31.basil',
    object: 'line_item',
    before: ['price', 'plan', 'proration', 'type', 'tax_amounts'],
    since: ['parent', 'pricing', 'taxes'],
  },
  {
    version: '2025-03-31.basil',
    object: 'subscription',
    before: ['current_period_start', 'current_period_end'],
    since: [],
  },
  {
    version: '2025-03-31.basil',
    object: 'subscription_item',
    before: [],
    since: ['current_period_start', 'current_period_end'],
  },
  { version: '2025-03-31.basil', object: 'charge', before: ['invoice'], since: [] },
  { version: '2025-03-31.basil', object: 'payment_intent', before: ['invoice'], since: [] },
  { version: '2025-03-31.basil', object: 'credit_note', before: ['refund'], since: ['refunds'] },
  {
    version: '2025-03-31.basil',
    object: 'checkout.session',
    before: ['shipping_details'],
    since: [],
  },
  { version: '2025-09-30.clover', object: 'discount', before: ['coupon'], since: ['source'] },
  { version: '2022-11-15', object: 'charge', before: ['refunds'], since: [] },
];

/** @throws naming each field that is not as it was in this version, at any depth. */
export function assertOldShape(version: string, value: unknown): void {
  const wrong = problems(version, value, '');
  if (wrong.length > 0) throw new Error(`Not the shape of ${version}:\n${wrong.join('\n')}`);
}

function problems(version: string, value: unknown, path: string): string[] {
  if (Array.isArray(value)) {
    return value.flatMap((item, at) => problems(version, item, `${path}[${at}]`));
  }
  if (typeof value !== 'object' || value === null) return [];
  const shape = value as Shape;
  const here = CHANGED_FIELDS.filter(({ object }) => object === shape.object).flatMap((change) => {
    const [has, hasNot] =
      version < change.version ? [change.before, change.since] : [change.since, change.before];
    return [
      ...has.filter((field) => !Object.hasOwn(shape, field)).map((field) => `no ${field}`),
      ...hasNot.filter((field) => Object.hasOwn(shape, field)).map((field) => `has ${field}`),
    ].map((what) => `${path || '/'} ${change.object}: ${what}`);
  });
  const modes = version < '2026-03-25' ? /^(hosted|embedded|custom)$/ : /_page$|^(elements|form)$/;
  const mode =
    shape.object === 'checkout.session' && !modes.test(String(shape.ui_mode))
      ? [`${path || '/'} checkout.session: ui_mode is ${String(shape.ui_mode)}`]
      : [];
  return [
    ...here,
    ...mode,
    ...Object.entries(shape).flatMap(([key, child]) => problems(version, child, `${path}/${key}`)),
  ];
}
