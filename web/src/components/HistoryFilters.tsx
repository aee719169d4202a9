import { ChevronIcon } from './icons.tsx';
import { TRANSACTION_TYPES } from './transactionTypes.ts';

interface HistoryFiltersProps {
  choice: { type: string; from: string; to: string };
  filtered: boolean;
  onChange(name: 'type' | 'from' | 'to', value: string): void;
  onClear(): void;
}

export function HistoryFilters({ choice, filtered, onChange, onClear }: HistoryFiltersProps) {
  return (
    <div className="mt-5 grid grid-cols-2 items-end gap-3 sm:flex">
      <div className="col-span-2 sm:w-48">
        <label htmlFor="history-type" className="text-sm font-semibold">
          Type
        </label>
        <div className="relative mt-1">
          <select
            id="history-type"
            className="field appearance-none pr-10"
            value={choice.type}
            onChange={(event) => onChange('type', event.target.value)}
          >
            <option value="">All types</option>
            {Object.entries(TRANSACTION_TYPES).map(([type, name]) => (
              <option key={type} value={type}>
                {name}
              </option>
            ))}
          </select>
          {/* The browser's own arrow sticks to the edge and knows no padding. */}
          <ChevronIcon className="pointer-events-none absolute top-1/2 right-3 size-4 -translate-y-1/2 text-muted" />
        </div>
      </div>
      <DayField
        label="From"
        name="from"
        value={choice.from}
        max={choice.to}
        onChange={(value) => onChange('from', value)}
      />
      <DayField
        label="To"
        name="to"
        value={choice.to}
        min={choice.from}
        onChange={(value) => onChange('to', value)}
      />
      {filtered && (
        <button type="button" className="button button-quiet col-span-2" onClick={onClear}>
          Clear
        </button>
      )}
    </div>
  );
}

interface DayFieldProps {
  label: string;
  name: string;
  value: string;
  min?: string;
  max?: string;
  onChange(value: string): void;
}

function DayField({ label, name, value, min, max, onChange }: DayFieldProps) {
  return (
    <div className="min-w-0 sm:w-44">
      <label htmlFor={`history-${name}`} className="text-sm font-semibold">
        {label}
      </label>
      <input
        id={`history-${name}`}
        type="date"
        className="field mt-1"
        value={value}
        min={min}
        max={max}
        onChange={(event) => onChange(event.target.value)}
      />
    </div>
  );
}
