/** Whether the work ends within that time. It goes on all the same; how it ends after that is nobody's concern. */
export async function endsWithin(timeoutMs: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<false>((resolve) => (timer = setTimeout(() => resolve(false), timeoutMs)));
  const ended = work.then(() => true);
  ended.catch(() => {});
  try {
    return await Promise.race([ended, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
