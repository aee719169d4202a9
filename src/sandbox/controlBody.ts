import type { z } from 'zod';
import { ApiError } from './errors.ts';

/** The checked body of a control call. @throws ApiError 400 naming every field that is wrong. */
export function parseControl<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw new ApiError(400, {
    type: 'invalid_request_error',
    message: result.error.issues
      .map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`)
      .join('; '),
  });
}
