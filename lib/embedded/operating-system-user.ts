import { stat } from 'node:fs/promises';

import { EmbeddedDatabaseError } from '../engine/errors.js';
import { runProgram } from './run-program.js';

/** The account a PostgreSQL program runs as, when that is not the account of this process. */
export interface OperatingSystemUser {
  uid: number;
  gid: number;
}

const ACCOUNT = 'postgres';

/**
 * Who runs the server of `clusterFolder`. PostgreSQL refuses to run as root, so root hands over to the owner of the
 * folder, or to the system account `postgres`, which is created if absent. Everybody else runs it as himself.
 */
export async function chooseServerUser(clusterFolder: string): Promise<OperatingSystemUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  return (await ownerOf(clusterFolder)) ?? (await findAccount()) ?? (await createAccount());
}

async function ownerOf(folder: string): Promise<OperatingSystemUser | undefined> {
  const stats = await stat(folder).catch(() => undefined);
  return stats && stats.uid !== 0 ? { uid: stats.uid, gid: stats.gid } : undefined;
}

async function findAccount(): Promise<OperatingSystemUser | undefined> {
  const [uid, gid] = await Promise.all([runProgram('id', ['-u', ACCOUNT]), runProgram('id', ['-g', ACCOUNT])]);
  return uid.succeeded && gid.succeeded ? { uid: Number(uid.output), gid: Number(gid.output) } : undefined;
}

async function createAccount(): Promise<OperatingSystemUser> {
  const created = await runProgram('useradd', [
    '--system',
    '--user-group',
    '--no-create-home',
    '--shell',
    '/usr/sbin/nologin',
    ACCOUNT,
  ]);
  // Two processes may create the account at the same moment: what counts is that it exists now.
  const account = await findAccount();
  if (account) return account;
  throw new EmbeddedDatabaseError(
    `PostgreSQL does not run as root, and the system account "${ACCOUNT}" does not exist and could not be created ` +
      `(${created.output}). Create it, run the app as another user, or configure \`dataSource\` or \`connection\`.`,
  );
}
