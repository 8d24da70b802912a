import spinner from 'yocto-spinner';

/** Shows on a terminal that something is under way, for as long as it is. */
export async function withProgress<T>(text: string, work: (tell: (text: string) => void) => Promise<T>): Promise<T> {
  if (!process.stderr.isTTY) return work(() => {});
  const spinning = spinner({ text, stream: process.stderr, handleSignals: false }).start();
  try {
    return await work((next) => (spinning.text = next));
  } finally {
    spinning.stop();
  }
}
