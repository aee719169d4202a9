/** Setup of the Jest projects that run the API suites on this database adapter. */
process.env.PURSER_TEST_DATABASE = 'supabase';
