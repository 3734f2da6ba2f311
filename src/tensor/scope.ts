/**
 * Scopes free what is temporary: every tensor made inside is disposed at the end, except those returned, which move to the
 * scope around. Scopes are synchronous and nest.
 */
import { check } from './errors.js';
import type { HostArray } from './dtype.js';
import type { Tensor } from './tensor.js';

const scopes: Set<Tensor>[] = [];

/** The innermost scope owns the tensor from now on: one just made, or one that was kept. */
export function onScopeCreate(tensor: Tensor): void {
  scopes.at(-1)?.add(tensor);
}

/** Takes a tensor out of the innermost scope, so that it lives until it is disposed by hand. */
export function keep<T extends Tensor>(tensor: T): T {
  for (const scope of scopes) scope.delete(tensor);
  return tensor;
}

/** What may leave a scope, seen from a type: functions may not, and so no promises, maps or objects with methods. */
type Kept<T> = T extends Tensor | HostArray | undefined | null | void | string | number | boolean
  ? T
  : T extends (...args: never[]) => unknown
    ? never
    : { readonly [Key in keyof T]: Kept<T[Key]> };

/** Moves the tensors of `value` that `own` holds to the scope around. */
function handOver(value: unknown, own: Set<Tensor>): void {
  if (value === null || typeof value !== 'object') return;
  if (own.delete(value as Tensor)) onScopeCreate(value as Tensor);
  else if (!ArrayBuffer.isView(value) && !('storage' in value))
    for (const item of Object.values(value)) handOver(item, own);
}

/** The result, unless `f` is asynchronous: what it did later would be outside of what `op` does around it. */
export function refusePromise<T>(op: string, result: T): T {
  check(
    !(result instanceof Promise),
    op,
    'a function that is done when it returns',
    () => 'an asynchronous one',
  );
  return result;
}

/**
 * Runs `f`, then frees every tensor it made except those in its result: a tensor, or arrays and objects of them, among which there may
 * be numbers, texts and host arrays.
 */
export function scope<T>(f: () => T & Kept<T>): T {
  const own = new Set<Tensor>();
  scopes.push(own);
  let result: T;
  try {
    result = refusePromise('scope', f());
  } catch (error) {
    scopes.pop();
    for (const tensor of own) tensor.dispose();
    throw error;
  }
  scopes.pop();
  handOver(result, own);
  for (const tensor of own) tensor.dispose();
  return result;
}
