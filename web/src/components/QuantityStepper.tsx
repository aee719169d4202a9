import { useId, useState } from 'react';

export const QUANTITY_MAX = 100;

interface QuantityStepperProps {
  /** What is counted, for screen readers: "50 credits". */
  of: string;
  value: number;
  disabled: boolean;
  onChange(value: number): void;
}

/** 1 to 100. Typing may pass through an empty field; the value is only ever a whole number in range. */
export function QuantityStepper({ of, value, disabled, onChange }: QuantityStepperProps) {
  const id = useId();
  const [draft, setDraft] = useState<string | null>(null);

  function step(by: number) {
    setDraft(null);
    onChange(clamp(value + by));
  }

  function type(text: string) {
    const digits = text.replace(/\D/g, '').slice(0, 3);
    setDraft(digits);
    if (digits !== '') onChange(clamp(Number(digits)));
  }

  return (
    <div className="flex items-center justify-between gap-3">
      <label htmlFor={id} className="text-sm text-muted">
        Quantity<span className="sr-only"> of {of}, 1 to 100</span>
      </label>
      <div className="flex overflow-hidden rounded-button border border-line">
        <StepButton
          label={`One fewer of ${of}`}
          sign={'\u2212'}
          disabled={disabled || value <= 1}
          onClick={() => step(-1)}
        />
        <input
          id={id}
          type="text"
          inputMode="numeric"
          autoComplete="off"
          className="w-12 border-x border-line bg-surface text-center tabular-nums -outline-offset-2"
          value={draft ?? String(value)}
          readOnly={disabled}
          onChange={(event) => type(event.target.value)}
          onBlur={() => setDraft(null)}
          onKeyDown={(event) => {
            const by = event.key === 'ArrowUp' ? 1 : event.key === 'ArrowDown' ? -1 : 0;
            if (by === 0 || disabled) return;
            event.preventDefault();
            step(by);
          }}
        />
        <StepButton
          label={`One more of ${of}`}
          sign="+"
          disabled={disabled || value >= QUANTITY_MAX}
          onClick={() => step(1)}
        />
      </div>
    </div>
  );
}

interface StepButtonProps {
  label: string;
  sign: string;
  disabled: boolean;
  onClick(): void;
}

function StepButton({ label, sign, disabled, onClick }: StepButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      // Not `disabled`: a button that vanishes from the focus order under the finger loses the focus.
      aria-disabled={disabled}
      className="grid size-11 place-items-center text-lg -outline-offset-2 hover:bg-brand-soft aria-disabled:cursor-default aria-disabled:text-muted aria-disabled:opacity-50 aria-disabled:hover:bg-transparent"
      onClick={() => {
        if (!disabled) onClick();
      }}
    >
      <span aria-hidden="true">{sign}</span>
    </button>
  );
}

function clamp(value: number): number {
  return Math.min(QUANTITY_MAX, Math.max(1, value));
}
