-- Days. What a clock that is wrong puts outside of those that are made goes to the default partitions.
CREATE TABLE delivery_default PARTITION OF delivery DEFAULT;
CREATE TABLE result_default PARTITION OF result DEFAULT;
CREATE TABLE attempt_default PARTITION OF attempt DEFAULT;

-- The lowest UUIDv7 of a moment (RFC 9562, 5.7: milliseconds in its first 48 bits).
CREATE FUNCTION lowest_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (rpad(lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0'), 32, '0'))::uuid
$$;

-- Make the partition of one day of one table, unless it is there. What the default one holds of it moves.
--
-- One table at a time, and one session at a time: whoever waits for a lock here holds none that others wait for, but
-- that of one default partition, for half a second at most.
CREATE FUNCTION make_part(parent text, day date) RETURNS boolean LANGUAGE plpgsql
  SET search_path FROM CURRENT SET lock_timeout = '500ms' AS $$
DECLARE
  low constant uuid := lowest_id(day::timestamp AT TIME ZONE 'UTC');
  high constant uuid := lowest_id((day + 1)::timestamp AT TIME ZONE 'UTC');
  part constant text := parent || '_' || to_char(day, 'YYYYMMDD');
  key constant text := CASE parent WHEN 'delivery' THEN 'id' ELSE 'delivery' END;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtextextended('callback_middleware days', 'queue'::regclass::oid::bigint)) THEN
    RETURN false;
  END IF;
  -- Looked for under the lock: whoever held it before may have made it.
  IF to_regclass(format('%I.%I', current_schema(), part)) IS NOT NULL THEN
    RETURN false;
  END IF;
  -- Made apart and attached: that alone takes no lock that keeps others from the parent.
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', part, parent);
  EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
    parent || '_default', key, low, key, high, part);
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, low, high);
  RETURN true;
END $$;

-- Drop the partition of one day of one table. Of deliveries only if none of them is queued, and every one ended before a
-- moment; of the other tables once their deliveries are gone.
CREATE FUNCTION drop_part(parent text, day date, before timestamptz) RETURNS boolean LANGUAGE plpgsql
  SET search_path FROM CURRENT SET lock_timeout = '500ms' AS $$
DECLARE
  low constant uuid := lowest_id(day::timestamp AT TIME ZONE 'UTC');
  high constant uuid := lowest_id((day + 1)::timestamp AT TIME ZONE 'UTC');
  suffix constant text := '_' || to_char(day, 'YYYYMMDD');
  kept boolean;
BEGIN
  -- Cheaply first, and again when nobody can queue anything of it any more.
  FOR locked IN 0..1 LOOP
    IF locked = 1 THEN
      -- In the order in which a query takes them; and whoever dropped it meanwhile had the first one.
      EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    END IF;
    IF to_regclass(format('%I.%I', current_schema(), parent || suffix)) IS NULL THEN
      RETURN true;
    END IF;
    IF locked = 1 THEN
      EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || suffix);
    END IF;
    IF parent = 'delivery' THEN
      -- Asked of the whole table: the day of its results may never have been made.
      EXECUTE format('SELECT EXISTS (SELECT FROM queue WHERE id >= %L AND id < %L)'
        ' OR EXISTS (SELECT FROM result WHERE delivery >= %L AND delivery < %L AND ended_at >= $1)',
        low, high, low, high) INTO kept USING before;
    ELSE
      -- Of a day that is long over there may be deliveries all the same: a clock that is wrong puts them.
      EXECUTE format('SELECT EXISTS (SELECT FROM delivery WHERE id >= %L AND id < %L)', low, high) INTO kept;
      kept := kept OR to_regclass(format('%I.%I', current_schema(), 'delivery' || suffix)) IS NOT NULL;
    END IF;
    IF kept THEN
      RETURN false;
    END IF;
  END LOOP;
  EXECUTE format('DROP TABLE %I', parent || suffix);
  RETURN true;
END $$;

-- The days that have partitions: also those of which but one table is left, because somebody read it for long.
CREATE FUNCTION days() RETURNS SETOF date LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
  SELECT DISTINCT to_date(right(child.relname, 8), 'YYYYMMDD')
  FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
  WHERE inhparent IN ('delivery'::regclass, 'result'::regclass, 'attempt'::regclass)
    AND child.relname ~ '^(delivery|result|attempt)_[0-9]{8}$'
  ORDER BY 1
$$;
