import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stopEmbeddedPostgres } from '../../lib/embedded/embedded-postgres.js';

/*
 * What a user does after installation, with the built package: generate, compile, test. The application is a folder of
 * its own whose node_modules is that of this repository, so nothing is downloaded.
 */
const repository = fileURLToPath(new URL('../..', import.meta.url));
const nodeModules = join(repository, 'node_modules');

/** As `nest new` writes it. */
const tsconfig = {
  compilerOptions: {
    module: 'nodenext',
    moduleResolution: 'nodenext',
    resolvePackageJsonExports: true,
    esModuleInterop: true,
    isolatedModules: true,
    declaration: true,
    removeComments: true,
    emitDecoratorMetadata: true,
    experimentalDecorators: true,
    allowSyntheticDefaultImports: true,
    target: 'ES2023',
    outDir: './dist',
    rootDir: '.',
    skipLibCheck: true,
    strict: true,
    strictPropertyInitialization: false,
    types: ['jest', 'node'],
  },
  include: ['src'],
};

const appModule = `import { Module } from '@nestjs/common';

@Module({
  imports: [],
  providers: [],
})
export class AppModule {}
`;

const jestConfig = {
  testRegex: String.raw`\.spec\.ts$`,
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    [String.raw`^.+\.ts$`]: [
      '@swc/jest',
      {
        jsc: {
          target: 'es2022',
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          keepClassNames: true,
        },
        module: { type: 'es6' },
      },
    ],
  },
  moduleNameMapper: { [String.raw`^(\.{1,2}/.*)\.js$`]: '$1' },
};

class Application {
  readonly folder: string;

  constructor(packageType: 'module' | 'commonjs') {
    if (!existsSync(join(repository, 'dist/index.js'))) throw new Error('dist is missing: run `npm run build` first.');
    this.folder = mkdtempSync(join(tmpdir(), 'generated-code-'));
    // Open to the account that runs the embedded PostgreSQL when the tests run as root.
    chmodSync(this.folder, 0o755);
    symlinkSync(nodeModules, join(this.folder, 'node_modules'), 'junction');
    this.write('package.json', JSON.stringify({ name: 'app', private: true, type: packageType }));
    this.write('nest-cli.json', JSON.stringify({ collection: '@nestjs/schematics', sourceRoot: 'src' }));
    this.write('tsconfig.json', JSON.stringify(tsconfig));
    this.write('jest.config.json', JSON.stringify(jestConfig));
    this.write('src/app.module.ts', appModule);
  }

  nest(...parameters: string[]): string {
    return this.node('@nestjs/cli/bin/nest.js', parameters);
  }

  compile(): string {
    return this.node('typescript/bin/tsc', ['--noEmit']);
  }

  test(): string {
    return this.node('jest/bin/jest.js', ['--ci', '--runInBand'], ['--experimental-vm-modules', '--no-warnings']);
  }

  read(path: string): string {
    return readFileSync(join(this.folder, path), 'utf8');
  }

  has(path: string): boolean {
    return existsSync(join(this.folder, path));
  }

  async remove(): Promise<void> {
    await stopEmbeddedPostgres({ dir: join(this.folder, '.orchestration') });
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** At a terminal, where the program asks: what it showed. `keys` are pressed when it shows the question. */
  async nestAtTerminal(parameters: string[], question: string, keys: string): Promise<string> {
    const program = [process.execPath, join(nodeModules, '@nestjs/cli/bin/nest.js'), ...parameters];
    const terminal = spawn('script', ['-qec', program.map((word) => `'${word}'`).join(' '), '/dev/null'], {
      cwd: this.folder,
      // On a CI server nobody is asked.
      env: { ...process.env, CI: undefined, NO_COLOR: '1', TERM: 'xterm' },
    });
    let shown = '';
    terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
      const isAsked = !shown.includes(question);
      shown += text;
      if (isAsked && shown.includes(question)) terminal.stdin.write(keys);
    });
    await once(terminal, 'close');
    return shown;
  }

  private write(path: string, text: string): void {
    mkdirSync(dirname(join(this.folder, path)), { recursive: true });
    writeFileSync(join(this.folder, path), text);
  }

  /** What the program printed; an error with it when the program failed. */
  private node(program: string, parameters: string[], flags: string[] = []): string {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [...flags, join(nodeModules, program), ...parameters],
      {
        cwd: this.folder,
        encoding: 'utf8',
        env: { ...process.env, NO_COLOR: '1' },
      },
    );
    const output = stdout + stderr;
    if (status !== 0) throw new Error(`${program} ${parameters.join(' ')} ended with ${status}:\n${output}`);
    return output;
  }
}

// Until the package has an entry point there is nothing that generated code could import.
const describeGenerated = existsSync(join(repository, 'lib/index.ts')) ? describe : describe.skip;

describeGenerated('what nest g writes into an ESM application', () => {
  let app: Application;

  beforeAll(() => {
    app = new Application('module');
    app.nest('add', 'nestjs-orchestration', '--skip-install', '--database', 'url');
    app.nest('g', '-c', 'nestjs-orchestration', 'workflow', 'orderWorkflow');
    app.nest('g', '-c', 'nestjs-orchestration', 'flow', 'shop/return');
    app.nest('g', '-c', 'nestjs-orchestration', 'step', 'shop/charge');
  });

  afterAll(() => app.remove());

  it('is registered in its module, which imports the one of the package', () => {
    expect(app.read('src/app.module.ts')).toContain(
      "imports: [OrchestrationModule.forRoot({ connection: { type: 'postgres', url: process.env.DATABASE_URL } })]",
    );
    expect(app.read('src/app.module.ts')).toContain('providers: [OrderWorkflow, ReturnFlow, ChargeStep]');
  });

  it('compiles', () => {
    expect(app.compile()).toBe('');
  });

  it('has tests that pass, on a database that starts by itself', () => {
    const output = app.test();

    expect(output).toContain('PASS src/order/order.workflow.spec.ts');
    expect(output).toContain('PASS src/shop/return/return.flow.spec.ts');
    expect(output).toContain('PASS src/shop/charge/charge.step.spec.ts');
    expect(output).toContain('Tests:       4 passed, 4 total');
  });

  it('is nothing with --dry-run', () => {
    const output = app.nest('g', '-c', 'nestjs-orchestration', 'workflow', 'refund', '--dry-run');

    expect(output).toContain('src/refund/refund.workflow.ts');
    expect(app.has('src/refund')).toBe(false);
  });
});

describeGenerated('nest add at a terminal', () => {
  let app: Application;

  beforeAll(() => {
    app = new Application('module');
  });

  afterAll(() => app.remove());

  it('asks for the database, and takes the one that is chosen', async () => {
    const [down, enter] = ['\x1b[B', '\r'];
    const question = 'Which database shall workflows use?';

    const shown = await app.nestAtTerminal(
      ['add', 'nestjs-orchestration', '--skip-install'],
      question,
      `${down}${enter}`,
    );

    expect(shown).toContain(question);
    expect(app.read('src/app.module.ts')).toContain(
      "imports: [OrchestrationModule.forRoot({ dataSource: 'default' })]",
    );
  });
});

describeGenerated('what nest g writes into a CommonJS application', () => {
  let app: Application;

  beforeAll(() => {
    app = new Application('commonjs');
    app.nest('add', 'nestjs-orchestration', '--skip-install');
    app.nest('g', '-c', 'nestjs-orchestration', 'workflow', 'order');
    app.nest('g', '-c', 'nestjs-orchestration', 'flow', 'shop/return');
    app.nest('g', '-c', 'nestjs-orchestration', 'step', 'shop/charge');
  });

  afterAll(() => app.remove());

  it('compiles', () => {
    expect(app.read('src/app.module.ts')).toContain("from './order/order.workflow';");
    expect(app.read('src/app.module.ts')).toContain('imports: [OrchestrationModule.forRoot()]');
    expect(app.compile()).toBe('');
  });
});
