import type { Ref } from 'react';

interface SignedOutProps {
  expired: boolean;
  /** What signing in is for here: "to buy credits". */
  purpose: string;
  ref?: Ref<HTMLDivElement>;
}

export function SignedOut({ expired, purpose, ref }: SignedOutProps) {
  return (
    <div ref={ref} tabIndex={-1} className="card bg-accent-soft p-5 shadow-none">
      <p className="font-semibold">{expired ? 'Your session has expired' : 'You are signed out'}</p>
      <p className="mt-1">
        {expired
          ? `Go back to the app you use these credits in and open this page from there again ${purpose}.`
          : `Open this page from the app you use these credits in ${purpose}. It signs you in by itself.`}
      </p>
    </div>
  );
}
