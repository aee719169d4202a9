import { useState } from 'react';
import { checkoutUrl } from '../checkout.ts';
import { api } from '../queries.ts';
import { Spinner } from './icons.tsx';
import { Problem } from './Problem.tsx';

/** Opens Stripe's billing portal, which leads back to the account. */
export function PortalButton({ label }: { label: string }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);

  async function open() {
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      const { url } = await api.createPortalSession(`${window.location.origin}/account`);
      window.location.assign(checkoutUrl(url));
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  }

  return (
    <>
      <button
        type="button"
        className="button button-quiet"
        aria-disabled={busy}
        onClick={() => void open()}
      >
        {busy && <Spinner />}
        {label}
      </button>
      {error !== null && (
        <div className="min-w-full whitespace-normal! sm:max-w-xs">
          <Problem error={error} title="The billing portal could not be opened" />
        </div>
      )}
    </>
  );
}
