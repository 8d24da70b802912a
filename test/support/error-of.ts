/** What a promise was rejected with, or that it was not. */
export async function errorOf(act: Promise<unknown>): Promise<unknown> {
  return act.then(
    () => 'no error',
    (error: unknown) => error,
  );
}
