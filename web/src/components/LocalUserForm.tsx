import { type FormEvent, useState } from 'react';
import {
  emailProblem,
  type LocalUser,
  recentLocalUsers,
  switchLocalUser,
  userIdProblem,
} from '../identity.ts';

interface LocalUserFormProps {
  current: LocalUser;
  onSwitched(user: LocalUser): void;
}

/** Local mode's stand-in for signing in: pick a user seen before or type another one. */
export function LocalUserForm({ current, onSwitched }: LocalUserFormProps) {
  const [userId, setUserId] = useState(current.userId);
  const [email, setEmail] = useState(current.email);
  const [checked, setChecked] = useState(false);
  const problems = { userId: userIdProblem(userId.trim()), email: emailProblem(email.trim()) };
  const others = recentLocalUsers().filter((user) => user.userId !== current.userId);

  function choose(user: LocalUser) {
    switchLocalUser(user);
    onSwitched(user);
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    setChecked(true);
    if (problems.userId || problems.email) return;
    choose({ userId: userId.trim(), email: email.trim() });
  }

  return (
    <form onSubmit={submit} noValidate className="grid gap-4">
      <div>
        <h2 className="text-xl">Local user</h2>
        <p className="mt-1 text-sm text-muted">
          Nobody signs in on this machine: these pages act as whoever you name here.
        </p>
      </div>
      {others.length > 0 && (
        <div className="flex flex-wrap gap-2">
          {others.map((user) => (
            <button
              key={user.userId}
              type="button"
              className="button button-quiet max-w-full px-3 text-sm"
              onClick={() => choose(user)}
            >
              <span className="sr-only">Act as </span>
              <span className="truncate">{user.userId}</span>
            </button>
          ))}
        </div>
      )}
      <Field
        name="user-id"
        label="User id"
        value={userId}
        problem={checked ? problems.userId : null}
        onChange={setUserId}
      />
      <Field
        name="user-email"
        label="E-mail"
        type="email"
        value={email}
        problem={checked ? problems.email : null}
        onChange={setEmail}
      />
      <button type="submit" className="button button-primary">
        Act as this user
      </button>
    </form>
  );
}

interface FieldProps {
  name: string;
  label: string;
  type?: 'text' | 'email';
  value: string;
  problem: string | null;
  onChange(value: string): void;
}

function Field({ name, label, type = 'text', value, problem, onChange }: FieldProps) {
  return (
    <div>
      <label htmlFor={name} className="text-sm font-semibold">
        {label}
      </label>
      <input
        id={name}
        type={type}
        className="field mt-1"
        value={value}
        autoComplete="off"
        autoCapitalize="none"
        spellCheck={false}
        aria-invalid={problem !== null}
        aria-describedby={problem ? `${name}-problem` : undefined}
        onChange={(event) => onChange(event.target.value)}
      />
      {problem && (
        <p id={`${name}-problem`} role="alert" className="mt-1 text-sm text-bad">
          {problem}
        </p>
      )}
    </div>
  );
}
