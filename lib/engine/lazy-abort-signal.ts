/** An AbortSignal that is made when somebody first looks at it: most step bodies never do. */
export class LazyAbortSignal {
  private controller: AbortController | undefined;
  private reason: Error | string = '';
  private isAborted = false;

  get signal(): AbortSignal {
    if (!this.controller) {
      this.controller = new AbortController();
      if (this.isAborted) this.controller.abort(errorOf(this.reason));
    }
    return this.controller.signal;
  }

  /** A text becomes an Error when somebody looks: making one costs more than all else here. */
  abort(reason: Error | string): void {
    if (this.isAborted) return;
    this.isAborted = true;
    this.reason = reason;
    this.controller?.abort(errorOf(reason));
  }
}

function errorOf(reason: Error | string): Error {
  return typeof reason === 'string' ? new Error(reason) : reason;
}
