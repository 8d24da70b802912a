/**
 * A map whose entries come and go by the thousand each second.
 *
 * A plain Map would keep them alive for long after. When its table is full V8 gives it a new one; the old table is garbage then, but once it
 * is in the old generation, only a full collection finds that out, and until then every collection of young garbage takes what
 * is left in it for alive, with all that it holds. So this one's table has numbers only, of places in a list, and a place that is left is emptied.
 */
export class ChurningMap<Key, Value> {
  private readonly places = new Map<Key, number>();
  private readonly list: (Value | undefined)[] = [];
  private readonly free: number[] = [];

  get size(): number {
    return this.places.size;
  }

  has(key: Key): boolean {
    return this.places.has(key);
  }

  get(key: Key): Value | undefined {
    const place = this.places.get(key);
    return place === undefined ? undefined : this.list[place];
  }

  set(key: Key, value: Value): void {
    const place = this.places.get(key) ?? this.free.pop() ?? this.list.length;
    this.places.set(key, place);
    this.list[place] = value;
  }

  delete(key: Key): void {
    const place = this.places.get(key);
    if (place === undefined) return;
    this.places.delete(key);
    this.list[place] = undefined;
    this.free.push(place);
  }

  clear(): void {
    this.places.clear();
    this.list.length = 0;
    this.free.length = 0;
  }

  keys(): Key[] {
    return [...this.places.keys()];
  }

  /** In the order of their keys, which is that in which these came. */
  values(): Value[] {
    return Array.from(this.places.values(), (place) => this.list[place]!);
  }
}
