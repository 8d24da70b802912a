import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ask, listen } from './api.js';

const LOOK_EVERY_MS = 5_000;
const AT_MOST_EVERY_MS = 700;

type Look = () => void;

const looks = new Set<Look>();
let due: number | undefined;

/** Everything that is shown is looked at again: soon, and once for many changes. */
export function lookAgain(): void {
  due ??= window.setTimeout(() => {
    due = undefined;
    if (document.visibilityState === 'visible') for (const look of looks) look();
  }, AT_MOST_EVERY_MS);
}

/** Whether the page is told of changes. It looks by itself as well, for what other processes do. */
export function useLiveness(): boolean {
  const [isLive, setLive] = useState(false);
  useEffect(() => {
    let close: (() => void) | undefined;
    // Only while somebody sees it: a browser has six connections to a server, for all of its tabs.
    const follow = (): void => {
      if (document.visibilityState === 'visible') close ??= listen(lookAgain, setLive);
      else {
        close?.();
        close = undefined;
      }
      lookAgain();
    };
    follow();
    const timer = window.setInterval(lookAgain, LOOK_EVERY_MS);
    document.addEventListener('visibilitychange', follow);
    return () => {
      close?.();
      window.clearInterval(timer);
      document.removeEventListener('visibilitychange', follow);
    };
  }, []);
  return isLive;
}

export interface Watched<Answer> {
  data?: Answer;
  problem?: string;
}

/** What a path of the API answers, kept up to date. The last answer stays while the next is awaited, or fails. */
export function useWatched<Answer>(path: string): Watched<Answer> {
  const [watched, setWatched] = useState<Watched<Answer> & { path?: string }>({});
  const current = useRef(path);
  current.current = path;
  const look = useCallback(() => {
    ask<Answer>(path).then(
      (data) => current.current === path && setWatched({ data, path }),
      (error: unknown) => {
        if (current.current !== path) return;
        setWatched((last) => ({ ...(last.path === path && last), problem: (error as Error).message, path }));
      },
    );
  }, [path]);
  useEffect(() => {
    looks.add(look);
    look();
    return () => void looks.delete(look);
  }, [look]);
  return watched.path === path ? watched : {};
}
