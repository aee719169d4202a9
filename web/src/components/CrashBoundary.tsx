import { Component, type ReactNode } from 'react';

/** The last resort for a defect in a page: says so instead of leaving a blank screen. */
export class CrashBoundary extends Component<{ children: ReactNode }, { message: string | null }> {
  override state = { message: null };

  static getDerivedStateFromError(error: unknown) {
    return { message: error instanceof Error ? error.message : String(error) };
  }

  override render() {
    if (this.state.message === null) return this.props.children;
    return (
      <main className="mx-auto grid min-h-dvh max-w-lg content-center gap-4 p-6">
        <h1 className="text-3xl">This page has a defect</h1>
        <p>
          Your credits and payments are not affected: they live on the server. Loading the page
          again usually helps.
        </p>
        <p className="text-sm text-muted">{this.state.message}</p>
        <p>
          <button
            type="button"
            className="button button-primary"
            onClick={() => window.location.reload()}
          >
            Load again
          </button>
        </p>
      </main>
    );
  }
}
