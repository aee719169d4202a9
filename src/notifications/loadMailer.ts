export type Mailer = typeof import('./mailer.ts');

/** Once a process. In the Vercel bundle it is a file of its own: see scripts/build-vercel.ts. */
let loading: Promise<Mailer> | null = null;

export function loadMailer(): Promise<Mailer> {
  loading ??= import('./mailer.ts').catch((error: unknown) => {
    loading = null;
    throw error;
  });
  return loading;
}
