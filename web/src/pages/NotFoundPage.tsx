import { Link } from 'wouter';
import { EmptyDrawing } from '../components/icons.tsx';
import { PageTitle } from '../components/PageTitle.tsx';

export function NotFoundPage() {
  return (
    <div className="grid max-w-xl gap-5">
      <EmptyDrawing className="w-32 text-muted" />
      <PageTitle tab="Page not found">No such page</PageTitle>
      <p className="text-lg text-muted">
        The address may have a typing error, or the page has moved. Your credits are where they
        were.
      </p>
      <p className="flex flex-wrap gap-3">
        <Link href="/pricing" className="button button-primary">
          See prices
        </Link>
        <Link href="/account" className="button button-quiet">
          Your account
        </Link>
      </p>
    </div>
  );
}
