import ora from 'ora';

import { paint } from './paint.js';

/** One thing that the demo does, as it is shown. */
export interface Stage {
  /** How far it is; replaces what was said before. */
  progress(text: string): void;
  /** Something that is to be read afterwards, too. */
  note(text: string): void;
}

/** What the demo says: with a live line on a terminal, in plain lines elsewhere. */
export class Report {
  private readonly isLive = process.stdout.isTTY && !process.env.CI;

  line(text = ''): void {
    console.log(text);
  }

  heading(text: string): void {
    console.log(`\n${paint('bold', text)}`);
  }

  /** Shows a stage while `work` is at it; what remains to be read is what `summarise` makes of its result. */
  async stage<Result>(
    title: string,
    work: (stage: Stage) => Promise<Result>,
    summarise: (result: Result) => string,
  ): Promise<Result> {
    const show = this.isLive ? showLive(title) : showPlain(title);
    try {
      const result = await work(show);
      show.end(summarise(result));
      return result;
    } catch (error) {
      show.fail();
      throw error;
    }
  }

  passed(text: string): void {
    console.log(`${paint('green', '✔')} ${text}`);
  }

  failed(text: string): void {
    console.log(`${paint('red', '✖')} ${text}`);
  }
}

interface Show extends Stage {
  end(summary: string): void;
  fail(): void;
}

function showLive(title: string): Show {
  // Ora's way of muting the keyboard would take Ctrl-C away from the demo's own clean-up.
  const spinner = ora({ text: title, stream: process.stdout, discardStdin: false }).start();
  return {
    progress: (text) => (spinner.text = text),
    note: (text) => {
      const { text: current } = spinner;
      spinner.stopAndPersist({ symbol: paint('yellow', '!'), text });
      spinner.start(current);
    },
    end: (summary) => spinner.succeed(summary),
    fail: () => spinner.fail(title),
  };
}

const QUIET_MS = 1_000;

function showPlain(title: string): Show {
  let saidAt = Date.now();
  console.log(`- ${title}`);
  return {
    progress: (text) => {
      if (Date.now() - saidAt < QUIET_MS) return;
      saidAt = Date.now();
      console.log(`  ${text}`);
    },
    note: (text) => console.log(`! ${text}`),
    end: (summary) => console.log(`✔ ${summary}`),
    fail: () => console.log(`✖ ${title}`),
  };
}
