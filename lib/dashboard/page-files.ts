import { readFile } from 'node:fs/promises';

/** A file of the page, with the headers that it is served by. */
export interface PageFile {
  text: string;
  headers: Record<string, string>;
}

const TYPES = { 'page.js': 'text/javascript; charset=utf-8', 'page.css': 'text/css; charset=utf-8' } as const;

/** Nothing comes from elsewhere, nothing goes elsewhere, no other page may show it, and what a payload says is never run. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const HEADERS = { 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer', 'Cache-Control': 'no-cache' };

/** The page as it is for a request to that URL: its assets are below it, whatever a proxy has put before. */
export async function indexPage(url: string): Promise<PageFile> {
  const last = url
    .replace(/[?#].*$/, '')
    .split('/')
    .at(-1)!;
  const base = last === '' ? './' : `./${last.replace(/[^\w\-.~%]/g, encodeURIComponent)}/`;
  const text = (await read('index.html')).replaceAll('{{base}}', base);
  const headers = { 'Content-Type': 'text/html; charset=utf-8', 'Content-Security-Policy': POLICY };
  return { text, headers: { ...HEADERS, ...headers } };
}

/** An asset of the page; undefined where there is none of that name. */
export async function pageAsset(name: string): Promise<PageFile | undefined> {
  if (!Object.hasOwn(TYPES, name)) return undefined;
  return { text: await read(name), headers: { ...HEADERS, 'Content-Type': TYPES[name as keyof typeof TYPES] } };
}

/** `npm run build` makes them. */
function read(name: string): Promise<string> {
  return readFile(new URL(`./page/built/${name}`, import.meta.url), 'utf8');
}
