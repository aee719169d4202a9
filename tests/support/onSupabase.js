/** Setup of the Jest project that runs the API suites on the supabase-js adapter. */
process.env.PURSER_TEST_DATABASE = 'supabase';
