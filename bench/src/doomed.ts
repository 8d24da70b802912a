/** The step of doomed runs: whether it ever ends is up to its process. */
export const doomed = {
  hangs: false,
  async step(): Promise<void> {
    if (doomed.hangs) await new Promise(() => {});
  },
};
