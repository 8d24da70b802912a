const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Whether the text is an id that PostgreSQL takes; others are ids of nothing. */
export function isUuid(text: unknown): text is string {
  return typeof text === 'string' && UUID.test(text);
}
