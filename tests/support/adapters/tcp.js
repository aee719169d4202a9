/** Setup of the Jest projects that run the API suites on this Redis adapter. */
process.env.PURSER_TEST_REDIS = 'tcp';
