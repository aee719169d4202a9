/**
 * The statement that writes a hold as it lies in the table, for tests that need one no function
 * made. Its first answer, which replays repeat, is left at zero.
 *   user  an SQL expression; `from` gives it rows
 */
export function plantedHold(hold: {
  user: string;
  amount: number;
  key?: string;
  captured?: number;
  status?: 'open' | 'released';
  expiresAt?: string;
  createdAt?: string;
  from?: string;
}): string {
  const { user, amount, key = 'hold:planted', captured = 0, status = 'open', from = '' } = hold;
  const expiresAt = hold.expiresAt ? `'${hold.expiresAt}'` : `now() + interval '1 hour'`;
  const createdAt = hold.createdAt ? `'${hold.createdAt}'` : 'now()';
  return `insert into credit_holds (user_id, idempotency_key, amount, captured, status, expires_at,
      first_expires_at, balance_after, held_after, available_after, version, while_suspended, created_at, updated_at)
    select ${user}, '${key}', ${amount}, ${captured}, '${status}', ${expiresAt}, ${expiresAt}, 0, 0, 0, 1, false,
      ${createdAt}, ${createdAt} ${from};`;
}
