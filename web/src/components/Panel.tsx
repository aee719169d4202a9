import type { ReactNode } from 'react';
import { PageTitle } from './PageTitle.tsx';

type Tone = 'good' | 'bad' | 'wait';

const TONES: Record<Tone, string> = {
  good: 'bg-good-soft text-good stamp',
  bad: 'bg-bad-soft text-bad',
  wait: 'bg-brand-soft text-brand',
};

interface PanelProps {
  tone: Tone;
  icon: ReactNode;
  tab: string;
  title: string;
  children: ReactNode;
}

/** One thing that happened, in the middle of a page: a sign, a sentence, what to do. */
export function Panel({ tone, icon, tab, title, children }: PanelProps) {
  return (
    <div className="grid justify-items-center gap-4 py-8 text-center sm:py-10">
      <span className={`grid size-16 place-items-center rounded-full ${TONES[tone]}`}>{icon}</span>
      <PageTitle tab={tab} className="sm:text-4xl">
        {title}
      </PageTitle>
      {children}
    </div>
  );
}
