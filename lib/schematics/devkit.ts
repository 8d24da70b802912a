import { createRequire } from 'node:module';

type Devkit = typeof import('@angular-devkit/schematics');
type DevkitCore = typeof import('@angular-devkit/core');

/*
 * The Angular devkit is a dependency of @nestjs/schematics, neither of ours nor of the user. Resolved from where we
 * stand it would only be found where the package manager happens to hoist it (npm, but not Yarn PnP), and maybe in
 * another version than the one that runs us. So it is resolved from @nestjs/schematics.
 */
const require = createRequire(import.meta.url);
const requireOfNest = createRequire(require.resolve('@nestjs/schematics'));

/** The Angular devkit that the user's @nestjs/schematics works with. */
export const devkit = requireOfNest('@angular-devkit/schematics') as Devkit;

/** The path and string functions of that devkit. */
export const { normalize, strings } = requireOfNest('@angular-devkit/core') as DevkitCore;
