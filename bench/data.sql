-- What make bench-api asks for, among as much as a small installation has. Run by psql with the variables
-- viewer, library and media: the ids that the measured requests name.
BEGIN;

INSERT INTO users (id) SELECT gen_random_uuid() FROM generate_series(1, 1999) UNION ALL SELECT :'viewer';

INSERT INTO libraries (owner_user_id, name, is_default) SELECT id, 'My Library', true FROM users;
INSERT INTO libraries (id, owner_user_id, name) VALUES (:'library', :'viewer', 'To read');
INSERT INTO memberships (library_id, user_id, role) SELECT id, owner_user_id, 'admin' FROM libraries;

INSERT INTO media
  (id, kind, title, canonical_source_url, processing_status, created_at, updated_at, created_by_user_id)
SELECT
  CASE n WHEN 17 THEN :'media' ELSE gen_random_uuid() END,
  (ARRAY['web_article', 'web_article', 'epub', 'pdf', 'video', 'podcast_episode'])[1 + n % 6],
  'Nr. ' || n || ' – what a “title” of ' || repeat('usual length ', 1 + n % 4) || 'looks like',
  CASE WHEN n % 6 IN (0, 1, 4) THEN 'https://reading.example/articles/' || n || '/' || md5(n::text) END,
  (ARRAY['ready_for_reading', 'ready', 'pending', 'failed']::processing_status[])[1 + n % 4],
  now() - n * interval '97 seconds',
  now() - n * interval '89 seconds',
  creators.ids[1 + n % 2000]
FROM generate_series(1, 50000) AS n, (SELECT array_agg(id) AS ids FROM users) AS creators;

-- A hundred for each user, every two of them added at one moment. The measured library has the same hundred as its
-- owner's default library, as the product would have it. Media of one library lie far apart from each other.
WITH numbered AS (SELECT id, row_number() OVER (ORDER BY created_at DESC, id) AS n FROM media)
INSERT INTO library_media (library_id, media_id, created_at)
SELECT libraries.id, numbered.id, now() - k / 2 * interval '1 hour'
FROM (SELECT id, owner_user_id, dense_rank() OVER (ORDER BY owner_user_id <> :'viewer', owner_user_id) - 1 AS place
      FROM libraries) AS libraries
CROSS JOIN generate_series(0, 99) AS k
JOIN numbered ON numbered.n = 1 + (16 + libraries.place * 97 + k * 499) % 50000;

COMMIT;
VACUUM ANALYZE;
CHECKPOINT;
